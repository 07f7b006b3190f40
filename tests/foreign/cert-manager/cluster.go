package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// startLimit is how long etcd and the API server may each take: many programs share few cores.
const startLimit = 180 * time.Second

// cluster is etcd and a Kubernetes API server: no kubelet, no scheduler, no controllers but those started here.
type cluster struct {
	environment *envtest.Environment
	config      *rest.Config
	// kubeconfig is the file that tells a client of everything.
	kubeconfig string
	folder     string
	lifeline   *os.File
}

// keeper kills what still runs when the other end of its standard input is gone, however it went. A process is known
// by its id and by the folder among its arguments, since an id may have been given to another.
const keeper = `trap : TERM INT HUP; cat >/dev/null; while read -r pid; do
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1"; then kill -KILL "$pid"; fi
done <"$1/pids"; rm -rf "${1:?}"`

func startCluster() (*cluster, error) {
	folder, err := os.MkdirTemp("", "chancery-cluster-")
	if err != nil {
		return nil, err
	}
	started := &cluster{folder: folder}
	if err := started.keep(); err != nil {
		return nil, err
	}
	environment := &envtest.Environment{
		ControlPlaneStartTimeout: startLimit,
		ControlPlaneStopTimeout:  startLimit,
		DownloadBinaryAssets:     false,
	}
	started.environment = environment
	plane := &environment.ControlPlane
	if plane.GetAPIServer().Path, err = started.wrapper("kube-apiserver"); err != nil {
		return nil, err
	}
	plane.GetAPIServer().CertDir = filepath.Join(folder, "apiserver")
	plane.Etcd = &envtest.Etcd{DataDir: filepath.Join(folder, "etcd-data")}
	if plane.Etcd.Path, err = started.wrapper("etcd"); err != nil {
		return nil, err
	}
	for _, name := range []string{plane.GetAPIServer().CertDir, plane.Etcd.DataDir} {
		if err := os.MkdirAll(name, 0o700); err != nil {
			return nil, err
		}
	}
	// What lies in it is gone after the run; nothing waits for the disk.
	plane.Etcd.Configure().Set("unsafe-no-fsync", "true")
	if started.config, err = environment.Start(); err != nil {
		started.stop()
		return nil, fmt.Errorf("the API server does not start: %w", err)
	}
	// The tests decide when to slow down, not the client.
	started.config.QPS, started.config.Burst = -1, -1
	return started, started.install()
}

// install gives the API server cert-manager's resource definitions, and writes the kubeconfig.
func (c *cluster) install() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	crds := filepath.Join(filepath.Dir(program), "crds")
	options := envtest.CRDInstallOptions{Paths: []string{crds}, ErrorIfPathMissing: true, MaxTime: startLimit}
	if _, err := envtest.InstallCRDs(c.config, options); err != nil {
		return fmt.Errorf("cert-manager's resource definitions: %w", err)
	}
	user, err := c.environment.AddUser(envtest.User{Name: "test", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return err
	}
	text, err := user.KubeConfig()
	if err != nil {
		return err
	}
	c.kubeconfig = filepath.Join(c.folder, "kubeconfig")
	return os.WriteFile(c.kubeconfig, text, 0o600)
}

// keep starts the keeper.
func (c *cluster) keep() error {
	if err := os.WriteFile(filepath.Join(c.folder, "pids"), nil, 0o600); err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	command := exec.Command("sh", "-c", keeper, "keeper", c.folder)
	command.Stdin = read
	c.lifeline = write
	if err := command.Start(); err != nil {
		return err
	}
	return read.Close()
}

// wrapper writes a script that notes its process id for the keeper and becomes the program.
func (c *cluster) wrapper(name string) (string, error) {
	variable := map[string]string{"etcd": "CHANCERY_TEST_ETCD", "kube-apiserver": "CHANCERY_TEST_KUBE_APISERVER"}[name]
	program := os.Getenv(variable)
	if program == "" {
		return "", fmt.Errorf("%s does not say where %s is", variable, name)
	}
	text := fmt.Sprintf("#!/bin/sh\necho $$ >>'%s/pids'\nexec '%s' \"$@\"\n", c.folder, program)
	path := filepath.Join(c.folder, name)
	return path, os.WriteFile(path, []byte(text), 0o700)
}

// stop ends the API server and etcd; the keeper removes the folder.
func (c *cluster) stop() {
	if err := c.environment.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "cert-manager: ending the API server:", err)
	}
	if err := c.lifeline.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "cert-manager:", err)
	}
}
