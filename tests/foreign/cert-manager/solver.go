package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"

	acme "github.com/cert-manager/cert-manager/pkg/apis/acme/v1"
	"github.com/cert-manager/cert-manager/pkg/client/clientset/versioned"
	"github.com/cert-manager/cert-manager/pkg/client/informers/externalversions"
)

const challengePath = "/.well-known/acme-challenge/"

// solver stands in for the Pods that answer http-01: cert-manager makes the objects, and no kubelet runs them. It watches
// Challenges, and serves the key of each token.
type solver struct {
	mutex   sync.Mutex
	changed *sync.Cond
	// seen are the Challenges by their name: they are deleted when their Order is done.
	seen map[string]acme.ChallengeSpec
	// holds are the names whose answer waits, each until its channel is closed.
	holds map[string]*hold
}

// hold keeps an answer back: asked is closed when the server has come for it, released when it may have it.
type hold struct {
	asked, released chan struct{}
	once            sync.Once
}

func startSolver(ctx context.Context, client versioned.Interface, address string) (*solver, error) {
	s := &solver{seen: make(map[string]acme.ChallengeSpec), holds: make(map[string]*hold)}
	s.changed = sync.NewCond(&s.mutex)
	factory := externalversions.NewSharedInformerFactory(client, time.Hour)
	informer := factory.Acme().V1().Challenges().Informer()
	note := func(object any) {
		if challenge, ok := object.(*acme.Challenge); ok {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			s.seen[challenge.Namespace+"/"+challenge.Name] = challenge.Spec
			s.changed.Broadcast()
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    note,
		UpdateFunc: func(_, object any) { note(object) },
	})
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, ctx.Err()
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() {
		if err := server.Serve(listener); err != nil && ctx.Err() == nil {
			fail(fmt.Errorf("the solver: %w", err))
		}
	}()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return s, nil
}

// ServeHTTP answers http-01. The server may come before the watch has told of a Challenge; it is let wait.
func (s *solver) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	token, ok := strings.CutPrefix(request.URL.Path, challengePath)
	if !ok {
		http.NotFound(writer, request)
		return
	}
	challenge, ok := s.wait(request.Context(), token)
	if !ok {
		http.NotFound(writer, request)
		return
	}
	s.mutex.Lock()
	held := s.holds[challenge.DNSName]
	s.mutex.Unlock()
	if held != nil {
		held.once.Do(func() { close(held.asked) })
		select {
		case <-held.released:
		case <-request.Context().Done():
			return
		}
	}
	writer.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(writer, challenge.Key)
}

func (s *solver) wait(ctx context.Context, token string) (acme.ChallengeSpec, bool) {
	wake := context.AfterFunc(ctx, func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.changed.Broadcast()
	})
	defer wake()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for ctx.Err() == nil {
		for _, challenge := range s.seen {
			if challenge.Token == token {
				return challenge, true
			}
		}
		s.changed.Wait()
	}
	return acme.ChallengeSpec{}, false
}

// hold keeps the answers for a name back from now on.
func (s *solver) hold(name string) *hold {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.holds[name] = &hold{asked: make(chan struct{}), released: make(chan struct{})}
	return s.holds[name]
}

// kinds are the kinds of challenge that an identifier was proven by: cert-manager made Challenges of them.
func (s *solver) kinds(identifier string) []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var kinds []string
	name, wildcard := strings.CutPrefix(identifier, "*.")
	for _, challenge := range s.seen {
		if challenge.DNSName == name && challenge.Wildcard == wildcard {
			kinds = append(kinds, string(challenge.Type))
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}
