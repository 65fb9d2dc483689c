package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
)

const (
	repository   = "bench/app"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
	reportType   = "application/vnd.example.report"
	images       = 1000
	reports      = 20
	mebibyte     = 1 << 20
	largeSize    = 64 * mebibyte
)

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// What every server holds before it is measured; the same bytes for each of them.
type content struct {
	blobs     [][]byte // the config, the layer of all images and the large blob
	manifests [][]byte // images, by tag
	reports   [][]byte // referrers of the first image
	large     string   // the digest of the large blob
	listing   []byte   // the referrers as an index, for the server of files
}

func digest(bytes []byte) string {
	sum := sha256.Sum256(bytes)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func describe(mediaType string, bytes []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(bytes), Size: len(bytes)}
}

func random(seed int64, size int) []byte {
	bytes := make([]byte, size)
	rand.New(rand.NewSource(seed)).Read(bytes)
	return bytes
}

func document(value any) []byte {
	bytes, err := json.Marshal(value)
	must(err)
	return bytes
}

func tag(image int) string { return fmt.Sprintf("t%d", image) }

func makeContent() content {
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	layer := random(1, 4096)
	large := random(2, largeSize)
	made := content{blobs: [][]byte{config, layer, large}, large: digest(large)}
	image := manifest{
		SchemaVersion: 2,
		MediaType:     manifestType,
		Config:        describe(configType, config),
		Layers:        []descriptor{describe(layerType, layer)},
	}
	for number := range images {
		image.Annotations = map[string]string{"org.example.number": fmt.Sprint(number)}
		made.manifests = append(made.manifests, document(image))
	}
	subject := describe(manifestType, made.manifests[0])
	listing := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, indexType, nil}
	for number := range reports {
		report := image
		report.ArtifactType = reportType
		report.Subject = &subject
		report.Annotations = map[string]string{"org.example.report": fmt.Sprint(number)}
		bytes := document(report)
		made.reports = append(made.reports, bytes)
		entry := describe(manifestType, bytes)
		entry.ArtifactType = reportType
		entry.Annotations = report.Annotations
		listing.Manifests = append(listing.Manifests, entry)
	}
	made.listing = document(listing)
	return made
}

// The paths that a cell asks for, one after the other.
func (made content) paths(cell string) []string {
	base := "/v2/" + repository
	var paths []string
	switch {
	case strings.HasSuffix(cell, "-tag"):
		for number := range made.manifests {
			paths = append(paths, base+"/manifests/"+tag(number))
		}
	case strings.HasSuffix(cell, "-digest"):
		for _, bytes := range made.manifests {
			paths = append(paths, base+"/manifests/"+digest(bytes))
		}
	case cell == "referrers":
		paths = append(paths, base+"/referrers/"+digest(made.manifests[0]))
	case cell == "pull-64m":
		paths = append(paths, base+"/blobs/"+made.large)
	}
	return paths
}

// Pushes everything to a registry.
func (made content) push(address string) error {
	connection, err := dial(address)
	if err != nil {
		return err
	}
	defer connection.close()
	for _, bytes := range made.blobs {
		if err := connection.pushWhole(repository, digest(bytes), [][]byte{bytes}); err != nil {
			return err
		}
	}
	for number, bytes := range made.manifests {
		if err := connection.pushManifest(tag(number), bytes); err != nil {
			return err
		}
	}
	for _, bytes := range made.reports {
		if err := connection.pushManifest(digest(bytes), bytes); err != nil {
			return err
		}
	}
	return nil
}

// Lays everything out as files whose paths are those of the requests.
func (made content) write(root string) error {
	base := filepath.Join(root, "v2", repository)
	files := map[string][]byte{}
	for _, bytes := range made.blobs {
		files["blobs/"+digest(bytes)] = bytes
	}
	for number, bytes := range made.manifests {
		files["manifests/"+tag(number)] = bytes
		files["manifests/"+digest(bytes)] = bytes
	}
	files["referrers/"+digest(made.manifests[0])] = made.listing
	for name, bytes := range files {
		path := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, bytes, 0o644); err != nil {
			return err
		}
	}
	return nil
}
