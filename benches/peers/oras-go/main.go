// Collection by oras-go, on a layout of the make that benches/store collects: images with a config and a layer each, some of
// which are no longer in index.json. Beside it the time of unlinking as many files, in the same run on the same disk.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"oras.land/oras-go/v2/content/oci"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
	layerSize    = 300
	perImage     = 3
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func write(blobs, mediaType string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:])
	must(os.WriteFile(filepath.Join(blobs, name), content, 0o444))
	return descriptor{MediaType: mediaType, Digest: "sha256:" + name, Size: len(content)}
}

func noise(seed int64) []byte {
	content := make([]byte, layerSize)
	rand.New(rand.NewSource(seed)).Read(content)
	return content
}

// layout writes all images and an index.json that names those behind the first `gone`.
func layout(root string, images, gone int) {
	blobs := filepath.Join(root, "blobs", "sha256")
	must(os.MkdirAll(blobs, 0o755))
	must(os.WriteFile(filepath.Join(root, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	list := index{SchemaVersion: 2}
	for image := range images {
		config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Labels":{"n":"%d"}},"rootfs":{"type":"layers"}}`, image)
		text, err := json.Marshal(manifest{
			SchemaVersion: 2,
			MediaType:     manifestType,
			Config:        write(blobs, configType, []byte(config)),
			Layers:        []descriptor{write(blobs, layerType, noise(int64(image)))},
		})
		must(err)
		entry := write(blobs, manifestType, text)
		if image >= gone {
			entry.Annotations = map[string]string{"org.opencontainers.image.ref.name": fmt.Sprintf("v%07d", image)}
			list.Manifests = append(list.Manifests, entry)
		}
	}
	text, err := json.Marshal(list)
	must(err)
	must(os.WriteFile(filepath.Join(root, "index.json"), text, 0o644))
}

func files(dir string) int {
	entries, err := os.ReadDir(dir)
	must(err)
	return len(entries)
}

func milliseconds(work func()) float64 {
	start := time.Now()
	work()
	return float64(time.Since(start).Microseconds()) / 1e3
}

// unlink tells what it takes to remove as many files of the same size, and to sync their directory.
func unlink(root string, count int) float64 {
	must(os.MkdirAll(root, 0o755))
	names := make([]string, count)
	for at := range names {
		content := noise(int64(at))
		sum := sha256.Sum256(content)
		names[at] = filepath.Join(root, hex.EncodeToString(sum[:]))
		must(os.WriteFile(names[at], content, 0o444))
	}
	syscall.Sync()
	return milliseconds(func() {
		for _, name := range names {
			must(os.Remove(name))
		}
		dir, err := os.Open(root)
		must(err)
		must(dir.Sync())
		must(dir.Close())
	})
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, module := range info.Deps {
			if module.Path == "oras.land/oras-go/v2" {
				return module.Version
			}
		}
	}
	return "unknown"
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "describe" {
		describe()
		return
	}
	if len(os.Args) == 7 && (os.Args[1] == "prepare" || os.Args[1] == "run") {
		runCell(os.Args[1:])
		return
	}
	root := flag.String("dir", "", "a directory on the disk to be measured; what is made in it stays")
	images := flag.Int("images", 70_000, "images of the layout")
	gone := flag.Int("gone", 30_000, "images that index.json no longer names")
	flag.Parse()
	if *root == "" || *gone > *images {
		flag.Usage()
		os.Exit(2)
	}
	place := filepath.Join(*root, "layout")
	layout(place, *images, *gone)
	syscall.Sync()
	ctx := context.Background()
	var store *oci.Store
	open := milliseconds(func() {
		var err error
		store, err = oci.New(place)
		must(err)
	})
	blobs := filepath.Join(place, "blobs", "sha256")
	before := files(blobs)
	collect := milliseconds(func() { must(store.GC(ctx)) })
	if removed := before - files(blobs); removed != *gone*perImage {
		log.Fatalf("wrong number of files removed, expected=%d, found=%d", *gone*perImage, removed)
	}
	floor := unlink(filepath.Join(*root, "floor"), *gone*perImage)
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"peer": "oras-go", "version": version(), "phase": fmt.Sprintf("collect/%d of %d", *gone, *images), "unit": "ms",
		"open": open, "theirs": collect, "floor": floor, "ratio": collect / floor,
	}))
}
