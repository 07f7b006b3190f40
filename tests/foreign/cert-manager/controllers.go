package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cert-manager/cert-manager/pkg/controller"
	_ "github.com/cert-manager/cert-manager/pkg/controller/acmechallenges"
	_ "github.com/cert-manager/cert-manager/pkg/controller/acmeorders"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/acme"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/acme"
	"github.com/cert-manager/cert-manager/pkg/util/feature"
)

// workers is how many each controller has: cert-manager's default.
const workers = 5

// accountsNamespace is where the Secrets of ClusterIssuers are.
const accountsNamespace = "cert-manager"

// controllers are those of cert-manager that run here.
type controllers struct {
	end     context.CancelFunc
	running sync.WaitGroup
}

// startControllers starts every controller that the packages above registered, with cert-manager's defaults except for
// the DNS server and the challenges at once.
func startControllers(ctx context.Context, started *cluster, dnsServer string) (*controllers, error) {
	if err := feature.DefaultMutableFeatureGate.Set("ACMEUseARI=true"); err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	run := &controllers{end: end}
	factory, err := controller.NewContextFactory(ctx, options(started, dnsServer))
	if err != nil {
		end()
		return nil, err
	}
	shared, err := factory.Build()
	if err != nil {
		end()
		return nil, err
	}
	ready := make(map[string]controller.Interface)
	for name, construct := range controller.Known() {
		if ready[name], err = construct(factory); err != nil {
			end()
			return nil, fmt.Errorf("the controller %s: %w", name, err)
		}
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	for name, one := range ready {
		run.running.Go(func() {
			if err := one.Run(workers, ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "cert-manager: the controller %s: %v\n", name, err)
				os.Exit(1)
			}
		})
	}
	return run, nil
}

func options(started *cluster, dnsServer string) controller.ContextOptions {
	return controller.ContextOptions{
		Kubeconfig:    started.kubeconfig,
		IssuerOptions: controller.IssuerOptions{ClusterResourceNamespace: accountsNamespace},
		ACMEOptions: controller.ACMEOptions{
			HTTP01SolverImage:                 "registry.invalid/acmesolver:none",
			HTTP01SolverResourceRequestCPU:    resource.MustParse("10m"),
			HTTP01SolverResourceRequestMemory: resource.MustParse("64Mi"),
			HTTP01SolverResourceLimitsCPU:     resource.MustParse("100m"),
			HTTP01SolverResourceLimitsMemory:  resource.MustParse("64Mi"),
			ACMEHTTP01SolverRunAsNonRoot:      true,
			HTTP01SolverNameservers:           []string{dnsServer},
			DNS01Nameservers:                  []string{dnsServer},
			DNS01CheckRetryPeriod:             time.Second,
		},
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes:                 []string{"*", "-kubectl.kubernetes.io/"},
			CertificateRequestMinimumBackoffDuration: time.Hour,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
		SchedulerOptions: controller.SchedulerOptions{MaxConcurrentChallenges: 60},
	}
}

// stop ends the controllers and waits for them.
func (c *controllers) stop() {
	c.end()
	c.running.Wait()
}
