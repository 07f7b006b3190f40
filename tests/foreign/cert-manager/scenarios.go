package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/cert-manager/cert-manager/pkg/client/clientset/versioned"
)

// limit is how long one scenario may take: an order after a 503 waits for a queue that backs off.
const limit = 5 * time.Minute

// settling is how long after its issuers are ready cert-manager is taken to be at rest. It looks at an issuer again 5 s
// after its status was changed by two at once, and then forgets its account's URL: the next request begins with a look-up,
// and if that is answered 503, the request behind it is signed without the URL, which no server can take.
const settling = 15 * time.Second

// plan is what a JSON file asks for.
type plan struct {
	// DNSServer is asked for zones, as IP:PORT.
	DNSServer string `json:"dns_server"`
	// HTTP01 is where http-01 is answered, as IP:PORT.
	HTTP01 string `json:"http01"`
	// Root is a PEM file: what certificates are verified with, and nothing else.
	Root string `json:"root"`
	// Folder is where this program and the one that started it write what they wait for.
	Folder string `json:"folder"`
	// Objects are YAML: Namespaces, Secrets, ClusterIssuers, Issuers.
	Objects string `json:"objects"`
	// Batches are run one after the other, the scenarios of each at once.
	Batches [][]scenario `json:"batches"`
}

// scenario is one or more Certificates, and what is done with them.
type scenario struct {
	Name string `json:"name"`
	// Certificates is YAML.
	Certificates string `json:"certificates"`
	// Challenge is the kind by which every identifier is proven, or empty: by none.
	Challenge string `json:"challenge"`
	// Renew asks for another certificate when the first is there.
	Renew bool `json:"renew"`
	// Hold keeps the first name's answer to http-01 back: this program writes the file `NAME.asked`, and waits for
	// `NAME.go`.
	Hold bool `json:"hold"`
	// Announce is how many Certificates are ready when the file `NAME.asked` is written; 0: it is not.
	Announce int `json:"announce"`
	// Settled waits until cert-manager has looked at its issuers again, see settling.
	Settled bool `json:"settled"`
	// After waits for the file `NAME.go` before anything is done.
	After bool `json:"after"`
	// Refused is what the Order's reason contains, where no certificate may be made.
	Refused string `json:"refused"`
	// Again asks once more for what was refused: this program writes the file `NAME.asked`, and waits for `NAME.again`.
	Again bool `json:"again"`
}

// result is one line of the output.
type result struct {
	Scenario string  `json:"scenario"`
	Seconds  float64 `json:"seconds"`
	Detail   string  `json:"detail"`
	Error    string  `json:"error,omitempty"`
}

// bench is everything that scenarios run on.
type bench struct {
	plan
	server  *server
	kube    kubernetes.Interface
	certs   versioned.Interface
	solver  *solver
	started time.Time
	// settled is when it is at rest.
	settled time.Time
}

func scenarios(ctx context.Context, arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("scenarios wants the file of a plan")
	}
	text, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	b := &bench{started: time.Now()}
	if err := json.Unmarshal(text, &b.plan); err != nil {
		return err
	}
	started, err := startCluster()
	if err != nil {
		return err
	}
	defer started.stop()
	// The API server waits for those who still watch.
	ctx, unwatch := context.WithCancel(ctx)
	defer unwatch()
	if err := b.connect(ctx, started); err != nil {
		return err
	}
	run, err := startControllers(ctx, started, b.DNSServer)
	if err != nil {
		return err
	}
	defer run.stop()
	report(result{Scenario: "start", Seconds: time.Since(b.started).Seconds(), Detail: "etcd, API server, controllers"})
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, batch := range b.Batches {
		var all sync.WaitGroup
		for _, one := range batch {
			all.Go(func() { report(b.run(ctx, one)) })
		}
		all.Wait()
	}
	report(result{Scenario: "end", Seconds: time.Since(b.started).Seconds(), Detail: "all of it"})
	return ctx.Err()
}

func (b *bench) connect(ctx context.Context, started *cluster) error {
	var err error
	if b.server, err = started.server(); err != nil {
		return err
	}
	if b.kube, err = kubernetes.NewForConfig(started.config); err != nil {
		return err
	}
	if b.certs, err = versioned.NewForConfig(started.config); err != nil {
		return err
	}
	if b.solver, err = startSolver(ctx, b.certs, b.HTTP01); err != nil {
		return err
	}
	return collectGarbage(ctx, b.certs)
}

// prepare makes the objects that all scenarios share, and waits until every issuer has its account.
func (b *bench) prepare(ctx context.Context) error {
	begun := time.Now()
	objects, err := readObjects([]byte(b.Objects))
	if err != nil {
		return err
	}
	if err := b.server.namespace(ctx, accountsNamespace); err != nil {
		return err
	}
	issuers := 0
	for _, object := range objects {
		if err := b.server.apply(ctx, object, false); err != nil {
			return fmt.Errorf("%s: %w", title(object), err)
		}
	}
	for _, object := range objects {
		if kind := object.GetKind(); kind != "ClusterIssuer" && kind != "Issuer" {
			continue
		}
		if err := b.issuerReady(ctx, object); err != nil {
			return fmt.Errorf("%s: %w", title(object), err)
		}
		issuers++
	}
	b.settled = time.Now().Add(settling)
	report(result{
		Scenario: "issuers", Seconds: time.Since(begun).Seconds(),
		Detail: fmt.Sprintf("%d with an account each", issuers),
	})
	return nil
}

func (b *bench) run(ctx context.Context, one scenario) result {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if one.After {
		if err := b.told(ctx, one.Name+".go"); err != nil {
			return result{Scenario: one.Name, Error: err.Error()}
		}
	}
	if one.Settled {
		select {
		case <-time.After(time.Until(b.settled)):
		case <-ctx.Done():
		}
	}
	begun := time.Now()
	detail, err := b.try(ctx, one)
	done := result{Scenario: one.Name, Seconds: time.Since(begun).Seconds(), Detail: detail}
	if err != nil {
		done.Error = err.Error()
	}
	return done
}

// meet tells the one who started this program of a moment, and waits until it has done what it wants to do there.
func (b *bench) meet(ctx context.Context, name, answer string) error {
	if err := b.announce(name); err != nil {
		return err
	}
	return b.told(ctx, name+"."+answer)
}

func (b *bench) told(ctx context.Context, file string) error {
	return until(ctx, "the file "+file, func(context.Context) (bool, error) {
		_, err := os.Stat(filepath.Join(b.Folder, file))
		return err == nil, nil
	})
}

func (b *bench) announce(name string) error {
	return os.WriteFile(filepath.Join(b.Folder, name+".asked"), nil, 0o600)
}

// until waits for a condition, and says what it was where the time is up.
func until(ctx context.Context, what string, condition wait.ConditionWithContextFunc) error {
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, condition)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("still waiting for %s", what)
	}
	return err
}

var output sync.Mutex

func report(done result) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(done); err != nil {
		fail(err)
	}
}
