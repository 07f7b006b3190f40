package main

import (
	"context"
	"fmt"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/cert-manager/cert-manager/pkg/client/clientset/versioned"
	"github.com/cert-manager/cert-manager/pkg/client/informers/externalversions"
)

// collectGarbage does what the garbage collector of a whole cluster does, which an API server alone has not: an Order goes
// when its CertificateRequest has gone, a Challenge when its Order has. Without it the next Order of the same name finds
// one that is another's.
func collectGarbage(ctx context.Context, client versioned.Interface) error {
	changed := make(chan struct{}, 1)
	change := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	factory := externalversions.NewSharedInformerFactory(client, time.Hour)
	owners := cache.ResourceEventHandlerFuncs{DeleteFunc: change}
	// What is made for an owner that has gone already goes too.
	owned := cache.ResourceEventHandlerFuncs{AddFunc: change, DeleteFunc: change}
	if _, err := factory.Certmanager().V1().CertificateRequests().Informer().AddEventHandler(owners); err != nil {
		return err
	}
	if _, err := factory.Acme().V1().Orders().Informer().AddEventHandler(owned); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	go func() {
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			if err := collect(ctx, client); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "cert-manager: collecting garbage:", err)
				change(nil)
			}
		}
	}()
	return nil
}

// collect deletes what has no owner now. An owner is there before what it owns, so it is looked for afterwards.
func collect(ctx context.Context, client versioned.Interface) error {
	all := metav1.ListOptions{}
	challenges, err := client.AcmeV1().Challenges("").List(ctx, all)
	if err != nil {
		return err
	}
	orders, err := client.AcmeV1().Orders("").List(ctx, all)
	if err != nil {
		return err
	}
	requests, err := client.CertmanagerV1().CertificateRequests("").List(ctx, all)
	if err != nil {
		return err
	}
	there := make(map[types.UID]bool)
	for _, request := range requests.Items {
		there[request.UID] = true
	}
	for _, order := range orders.Items {
		there[order.UID] = true
	}
	orphan := func(object metav1.Object) bool {
		return object.GetDeletionTimestamp() == nil && !there[object.GetOwnerReferences()[0].UID]
	}
	for _, order := range orders.Items {
		if orphan(&order) {
			gone := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(order.UID))}
			if err := client.AcmeV1().Orders(order.Namespace).Delete(ctx, order.Name, gone); !passed(err) {
				return err
			}
		}
	}
	for _, challenge := range challenges.Items {
		if orphan(&challenge) {
			gone := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(challenge.UID))}
			if err := client.AcmeV1().Challenges(challenge.Namespace).Delete(ctx, challenge.Name, gone); !passed(err) {
				return err
			}
		}
	}
	return nil
}

// passed tells whether an object has gone, by this deletion or by another.
func passed(err error) bool {
	return err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err)
}
