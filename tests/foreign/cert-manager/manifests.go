package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// notServed are groups whose objects are read by command-line programs and never sent to an API server.
var notServed = []string{"kind.x-k8s.io", "kustomize.config.k8s.io"}

// server is what an API server can be asked by.
type server struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func (c *cluster) server() (*server, error) {
	client, err := dynamic.NewForConfig(c.config)
	if err != nil {
		return nil, err
	}
	discover, err := discovery.NewDiscoveryClientForConfig(c.config)
	if err != nil {
		return nil, err
	}
	return &server{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discover))}, nil
}

// manifests asks a fresh API server, by server-side dry run with unknown fields refused, to take every object.
func manifests(ctx context.Context, paths []string) error {
	var objects []document
	for _, path := range paths {
		files, err := yamlFiles(path)
		if err != nil {
			return err
		}
		for _, file := range files {
			found, err := readFile(file)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			objects = append(objects, found...)
		}
	}
	if len(objects) == 0 {
		return errors.New("there is no object in any YAML file below these paths")
	}
	started, err := startCluster()
	if err != nil {
		return err
	}
	defer started.stop()
	asked, err := started.server()
	if err != nil {
		return err
	}
	if err := asked.prepare(ctx, started, objects); err != nil {
		return err
	}
	refused := 0
	for _, object := range objects {
		verdict := "taken"
		if slices.Contains(notServed, object.GroupVersionKind().Group) {
			verdict = "not for an API server"
		} else if err := asked.apply(ctx, object.Unstructured, true); err != nil {
			refused++
			verdict = "REFUSED: " + err.Error()
		}
		fmt.Printf("%s: %s: %s\n", object.file, title(object.Unstructured), verdict)
	}
	fmt.Printf("%d objects, %d refused\n", len(objects), refused)
	if refused > 0 {
		return fmt.Errorf("%d objects refused", refused)
	}
	return nil
}

// prepare makes the namespaces and the resource definitions that the objects need: a dry run leaves none behind.
func (s *server) prepare(ctx context.Context, started *cluster, objects []document) error {
	for _, object := range objects {
		if object.GetKind() == "CustomResourceDefinition" {
			file := envtest.CRDInstallOptions{Paths: []string{object.file}, MaxTime: startLimit}
			if _, err := envtest.InstallCRDs(started.config, file); err != nil {
				return fmt.Errorf("%s: %w", object.file, err)
			}
		}
		if name := object.GetNamespace(); name != "" {
			if err := s.namespace(ctx, name); err != nil {
				return err
			}
		}
	}
	s.mapper.Reset()
	return nil
}

func (s *server) namespace(ctx context.Context, name string) error {
	namespace := &unstructured.Unstructured{}
	namespace.SetAPIVersion("v1")
	namespace.SetKind("Namespace")
	namespace.SetName(name)
	return s.apply(ctx, namespace, false)
}

// apply is server-side apply; a field that the API does not know is an error.
func (s *server) apply(ctx context.Context, object *unstructured.Unstructured, dryRun bool) error {
	kind := object.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = s.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := object.GetNamespace()
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
		resource = s.client.Resource(mapping.Resource).Namespace(namespace)
	}
	var dry []string
	if dryRun {
		dry = []string{metav1.DryRunAll}
	}
	if object.GetName() == "" {
		options := metav1.CreateOptions{DryRun: dry, FieldValidation: metav1.FieldValidationStrict}
		_, err = resource.Create(ctx, object, options)
		return err
	}
	text, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	options := metav1.PatchOptions{
		DryRun: dry, Force: &force, FieldManager: "chancery-test", FieldValidation: metav1.FieldValidationStrict,
	}
	_, err = resource.Patch(ctx, object.GetName(), types.ApplyPatchType, text, options)
	return err
}

func title(object *unstructured.Unstructured) string {
	name := object.GetName()
	if name == "" {
		name = object.GetGenerateName() + "…"
	}
	if namespace := object.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	return object.GetAPIVersion() + " " + object.GetKind() + " " + name
}

// yamlFiles are the YAML files of a folder and below, in order, or the file itself.
func yamlFiles(path string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(path, func(file string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && (strings.HasSuffix(file, ".yaml") || strings.HasSuffix(file, ".yml")) {
			files = append(files, file)
		}
		return err
	})
	return files, err
}
