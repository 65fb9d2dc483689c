package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A server under test: a program, and how it is told where its data is and where to listen.
type server struct {
	name string
	// Its program, where the environment names none.
	program string
	command func(binary, directory, address string) (*exec.Cmd, error)
	files   bool
}

const distributionConfig = `version: 0.1
log: {accesslog: {disabled: true}, level: error}
storage: {cache: {blobdescriptor: inmemory}, filesystem: {rootdirectory: %s}, delete: {enabled: true}}
http: {addr: "%s"}
`

const zotConfig = `{"distSpecVersion": "1.1.1", "storage": {"rootDirectory": %q, "gc": false},
"http": {"address": %q, "port": %q}, "log": {"level": "error", "output": "/dev/null"}}
`

const nginxConfig = `user %[3]s;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log stderr error;
daemon off;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    open_file_cache max=4096;
    default_type application/vnd.oci.image.manifest.v1+json;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server {
        listen %[2]s;
        root %[1]s/files;
        location = /v2/ { return 200; }
    }
}
`

// Writes a configuration beside the data, which is in a directory below.
func configured(directory, name, text string) (string, error) {
	path := filepath.Join(filepath.Dir(directory), name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

func distribution(binary, directory, address string) (*exec.Cmd, error) {
	path, err := configured(directory, "registry.yml", fmt.Sprintf(distributionConfig, directory, address))
	command := exec.Command(binary, "serve", path)
	command.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	return command, err
}

func servers(orlopArguments []string) []server {
	return []server{
		{name: "nginx", program: "nginx", files: true, command: func(binary, directory, address string) (*exec.Cmd, error) {
			// Its workers read what this user has written.
			name, err := user.Current()
			if err != nil {
				return nil, err
			}
			root := filepath.Dir(directory)
			path, err := configured(directory, "nginx.conf", fmt.Sprintf(nginxConfig, root, address, name.Username))
			return exec.Command(binary, "-e", "stderr", "-p", root, "-c", path), err
		}},
		{name: "orlop", program: "orlop", command: func(binary, directory, address string) (*exec.Cmd, error) {
			arguments := append([]string{"serve", "oci:" + directory, "--listen", address}, orlopArguments...)
			return exec.Command(binary, arguments...), nil
		}},
		{name: "docker-registry", program: "docker-registry", command: distribution},
		{name: "distribution", program: "registry", command: distribution},
		{name: "zot", program: "zot", command: func(binary, directory, address string) (*exec.Cmd, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			path, err := configured(directory, "zot.json", fmt.Sprintf(zotConfig, directory, host, port))
			return exec.Command(binary, "serve", path), err
		}},
	}
}

// The program of a server: what its variable names (ORLOP, ZOT, ...), or that of the PATH.
func (s server) find() (string, error) {
	variable := strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
	if named := os.Getenv(variable); named != "" {
		return filepath.Abs(named)
	}
	return exec.LookPath(s.program)
}

type running struct {
	process *exec.Cmd
	address string
	peak    atomic.Int64
	stop    chan struct{}
	ended   chan error
}

// Starts a server on the loopback, and waits until it answers.
func (s server) start(binary, directory string) (*running, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()
	command, err := s.command(binary, directory, address)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(filepath.Dir(directory), "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := command.Start(); err != nil {
		return nil, err
	}
	started := &running{process: command, address: address, stop: make(chan struct{}), ended: make(chan error, 1)}
	go func() { started.ended <- command.Wait() }()
	for range 300 {
		answer, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			answer.Body.Close()
			go started.watch()
			return started, nil
		}
		select {
		case err := <-started.ended:
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("%s does not start: %v\n%s", s.name, err, text)
		case <-time.After(100 * time.Millisecond):
		}
	}
	started.end()
	return nil, fmt.Errorf("%s does not answer", s.name)
}

func (r *running) end() {
	close(r.stop)
	r.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.ended:
	case <-time.After(30 * time.Second):
		r.process.Process.Kill()
		<-r.ended
	}
}

// Looks at the server's anonymous memory as long as it runs.
func (r *running) watch() {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			now := memory(r.process.Process.Pid)
			for before := r.peak.Load(); now > before && !r.peak.CompareAndSwap(before, now); before = r.peak.Load() {
			}
		}
	}
}

// The anonymous memory of a process and its children, in KiB.
func memory(process int) int64 {
	total := anonymous(process)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", process, process))
	for child := range strings.FieldsSeq(string(children)) {
		if number, err := strconv.Atoi(child); err == nil {
			total += anonymous(number)
		}
	}
	return total
}

func anonymous(process int) int64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", process))
	if err != nil {
		return 0
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), "RssAnon:"); found {
			number, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return number
		}
	}
	return 0
}
