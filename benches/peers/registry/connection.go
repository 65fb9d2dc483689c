package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// One connection that is kept open: requests are written as they are, and of an answer only what is needed is looked at,
// so that the client takes as little as it can of the cores that it shares with the server.
type connection struct {
	socket  net.Conn
	reader  *bufio.Reader
	address string
	discard []byte
}

type answer struct {
	status   int
	length   int64
	location string
}

func dial(address string) (*connection, error) {
	socket, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{socket, bufio.NewReaderSize(socket, 16<<10), address, make([]byte, 256<<10)}, nil
}

func (c *connection) close() { c.socket.Close() }

// Sends a request; the body is in parts that are not copied.
func (c *connection) send(method, path, header string, body [][]byte) error {
	length := 0
	for _, part := range body {
		length += len(part)
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n%s", method, path, c.address, header)
	if method != "GET" && method != "HEAD" {
		fmt.Fprintf(&head, "Content-Length: %d\r\n", length)
	}
	head.WriteString("\r\n")
	buffers := net.Buffers{head.Bytes()}
	buffers = append(buffers, body...)
	_, err := buffers.WriteTo(c.socket)
	return err
}

// Reads an answer, and throws its body away.
func (c *connection) receive(hasBody bool) (answer, error) {
	var got answer
	chunked := false
	for first := true; ; first = false {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return got, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if first {
			if len(line) < 12 {
				return got, fmt.Errorf("not an answer of HTTP: %q", line)
			}
			got.status, err = strconv.Atoi(string(line[9:12]))
			if err != nil {
				return got, err
			}
			continue
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			return got, fmt.Errorf("not a header: %q", line)
		}
		value := bytes.TrimSpace(line[colon+1:])
		switch {
		case bytes.EqualFold(line[:colon], []byte("content-length")):
			got.length, err = strconv.ParseInt(string(value), 10, 64)
			if err != nil {
				return got, err
			}
		case bytes.EqualFold(line[:colon], []byte("location")):
			got.location = string(value)
		case bytes.EqualFold(line[:colon], []byte("transfer-encoding")):
			chunked = true
		}
	}
	if !hasBody || got.status == 204 || got.status == 304 {
		return got, nil
	}
	if chunked {
		return got, c.skipChunks(&got)
	}
	return got, c.skip(got.length)
}

func (c *connection) skip(length int64) error {
	buffered := min(length, int64(c.reader.Buffered()))
	if _, err := c.reader.Discard(int(buffered)); err != nil {
		return err
	}
	for left := length - buffered; left > 0; {
		count, err := c.socket.Read(c.discard[:min(left, int64(len(c.discard)))])
		if err != nil {
			return err
		}
		left -= int64(count)
	}
	return nil
}

func (c *connection) skipChunks(got *answer) error {
	for {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil {
			return err
		}
		got.length += size
		if err := c.skip(size + 2); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

// Sends a request, and wants one status.
func (c *connection) ask(method, path, header string, body [][]byte, wanted int) (answer, error) {
	if err := c.send(method, path, header, body); err != nil {
		return answer{}, err
	}
	got, err := c.receive(method != "HEAD")
	if err == nil && got.status != wanted {
		err = fmt.Errorf("%s %s: status %d, not %d", method, path, got.status, wanted)
	}
	return got, err
}

// The path and query of a location, which may be a whole URL.
func local(location string) (string, error) {
	parsed, err := url.Parse(location)
	if err != nil {
		return "", err
	}
	if parsed.Path == "" {
		return "", fmt.Errorf("no location: %q", location)
	}
	return parsed.RequestURI(), nil
}

func withDigest(path, digest string) string {
	if strings.Contains(path, "?") {
		return path + "&digest=" + digest
	}
	return path + "?digest=" + digest
}

const octets = "Content-Type: application/octet-stream\r\n"

func (c *connection) begin(repository string) (string, error) {
	got, err := c.ask("POST", "/v2/"+repository+"/blobs/uploads/", "", nil, 202)
	if err != nil {
		return "", err
	}
	return local(got.location)
}

// A blob in one request after that which opens the session.
func (c *connection) pushWhole(repository, digest string, body [][]byte) error {
	session, err := c.begin(repository)
	if err != nil {
		return err
	}
	_, err = c.ask("PUT", withDigest(session, digest), octets, body, 201)
	return err
}

// A blob in parts, and one more request that closes the session.
func (c *connection) pushParts(repository, digest string, parts [][][]byte) error {
	session, err := c.begin(repository)
	if err != nil {
		return err
	}
	start := 0
	for _, part := range parts {
		length := 0
		for _, piece := range part {
			length += len(piece)
		}
		header := fmt.Sprintf("%sContent-Range: %d-%d\r\n", octets, start, start+length-1)
		got, err := c.ask("PATCH", session, header, part, 202)
		if err != nil {
			return err
		}
		start += length
		if session, err = local(got.location); err != nil {
			return err
		}
	}
	_, err = c.ask("PUT", withDigest(session, digest), octets, nil, 201)
	return err
}

func (c *connection) pushManifest(reference string, bytes []byte) error {
	path := "/v2/" + repository + "/manifests/" + reference
	_, err := c.ask("PUT", path, "Content-Type: "+manifestType+"\r\n", [][]byte{bytes}, 201)
	return err
}
