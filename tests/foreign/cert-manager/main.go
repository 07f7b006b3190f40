// Runs cert-manager's own controllers, without containers, on a Kubernetes API server that it starts.
//
//	cert-manager manifests PATH…   whether a fresh API server takes every object of the YAML files below the paths
//	cert-manager scenarios FILE    runs the scenarios that a JSON file describes; a line of JSON for each result
//	cert-manager versions          what it was built from
//
// CHANCERY_TEST_ETCD and CHANCERY_TEST_KUBE_APISERVER name the two programs; the folder `crds` lies beside this one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"k8s.io/klog/v2"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: cert-manager manifests PATH… | scenarios FILE | versions")
		os.Exit(2)
	}
	flags := flag.NewFlagSet("log", flag.ExitOnError)
	klog.InitFlags(flags)
	if level := os.Getenv("CHANCERY_TEST_VERBOSITY"); level != "" {
		if err := flags.Set("v", level); err != nil {
			fail(err)
		}
	}
	crlog.SetLogger(klog.Background())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := command(ctx, os.Args[1], os.Args[2:]); err != nil {
		stop()
		fail(err)
	}
}

func command(ctx context.Context, name string, arguments []string) error {
	switch name {
	case "manifests":
		return manifests(ctx, arguments)
	case "scenarios":
		return scenarios(ctx, arguments)
	case "versions":
		versions()
		return nil
	default:
		return fmt.Errorf("%s is no command", name)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "cert-manager:", err)
	os.Exit(1)
}

// versions prints the modules that matter, so that a report need not repeat what go.mod says.
func versions() {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	fmt.Println("go", build.GoVersion)
	for _, module := range build.Deps {
		if strings.HasSuffix(module.Path, "/cert-manager") || module.Path == "k8s.io/client-go" ||
			module.Path == "sigs.k8s.io/controller-runtime" {
			fmt.Println(module.Path, module.Version)
		}
	}
}
