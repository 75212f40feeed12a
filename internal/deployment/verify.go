package deployment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// cleanUpTime is how long the deletion of a pod may take when the run was called off.
const cleanUpTime = 10 * time.Second

// lateTries is how often a pod is deleted of which nobody knows whether it was made.
const lateTries = 3

// VerifyPull starts a pod as Airbyte would, waits until spec ran in it or Kubernetes said why not, and deletes it. Pods
// that killed runs left are deleted first.
func (c *Cluster) VerifyPull(ctx context.Context, repository image.Repository, tag, digest string, log connector.Log) error {
	target := Image{Repository: repository, Tag: tag, Digest: digest}
	conn, err := c.connect()
	if err != nil {
		return err
	}
	i, err := c.airbyte.get(ctx, conn)
	if err != nil {
		return err
	}
	c.swept.Do(func() { c.sweep(ctx, conn, i.jobNamespace(), log) })
	secrets, fromPod := conn.seenPullSecrets(ctx, i)
	p := c.pod(i, target, secrets)
	log.Info("starting a pod for %s as %s does: service account %s, %s", target.Reference(), i.describe(), i.serviceAccount(), secretsText(i, fromPod))
	var made corev1.Pod
	err = conn.call(ctx, request{method: http.MethodPost, api: core, namespace: p.Namespace, resource: "pods", body: p, op: "create", once: true}, &made)
	switch {
	case err == nil:
	case alreadyThere(err):
		// Nobody else takes that name: an answer got lost on the way, and the request was sent anew.
		made = *p
	case mayBeDone(err):
		return errors.Join(err, c.removeLate(ctx, conn, p.Namespace, p.Name))
	default:
		return err
	}
	outcome, err := c.watch(ctx, conn, target, &made, log)
	if err := errors.Join(err, c.remove(ctx, conn, made.Namespace, made.Name)); err != nil {
		return err
	}
	return c.judge(i, target, outcome, log)
}

// alreadyThere tells whether an object could not be made because there is one of that name.
func alreadyThere(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.code == http.StatusConflict && e.status.Reason == metav1.StatusReasonAlreadyExists
}

// removeLate deletes a pod that may have been made, or may yet be by a request that is on its way.
func (c *Cluster) removeLate(ctx context.Context, conn *connection, namespace, name string) error {
	ctx = context.WithoutCancel(ctx)
	for n := range lateTries {
		if n > 0 && c.options.Sleep(ctx, c.options.Poll) != nil {
			break
		}
		if err := c.remove(ctx, conn, namespace, name); err != nil {
			return err
		}
	}
	return nil
}

func secretsText(i *installation, fromPod string) string {
	text := "no pull secret"
	if names := i.named(); len(names) > 0 {
		text = "pull secrets " + strings.Join(names, ", ")
	}
	if fromPod != "" {
		text += " (its pod " + fromPod + " was looked at)"
	}
	return text
}

// seenPullSecrets are the pull secrets of the newest pod that Airbyte made for a job since its launcher last started, if
// there is one, which is the best that can be known; else what follows from the launcher's settings.
func (c *connection) seenPullSecrets(ctx context.Context, i *installation) (names []string, pod string) {
	newest := c.newestJobPod(ctx, i)
	if newest == nil {
		return i.pullSecrets(), ""
	}
	for _, s := range newest.Spec.ImagePullSecrets {
		names = append(names, s.Name)
	}
	// A pod of an older setting tells nothing of the present one.
	if !slices.Equal(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "" }), i.named()) {
		return i.pullSecrets(), ""
	}
	return names, newest.Name
}

// newestJobPod is the youngest pod that Airbyte made for a job, or nil.
func (c *connection) newestJobPod(ctx context.Context, i *installation) *corev1.Pod {
	var all corev1.PodList
	if c.list(ctx, core, i.jobNamespace(), "pods", jobLabel, "", &all) != nil {
		return nil
	}
	var newest *corev1.Pod
	for n := range all.Items {
		if p := &all.Items[n]; newest == nil || p.CreationTimestamp.After(newest.CreationTimestamp.Time) {
			newest = p
		}
	}
	return newest
}

// sweep deletes pods of runs that could not do it themselves. What can't be swept is told and stops nothing: such a pod
// has ended by itself, at its deadline at the latest.
func (c *Cluster) sweep(ctx context.Context, conn *connection, namespace string, log connector.Log) {
	var all corev1.PodList
	if err := conn.list(ctx, core, namespace, "pods", podSelector, "", &all); err != nil {
		log.Info("could not look for pods that earlier runs left: %v", err)
		return
	}
	for _, p := range all.Items {
		if !c.expired(p) {
			continue
		}
		if err := c.remove(ctx, conn, namespace, p.Name); err != nil {
			log.Info("could not delete the pod %s, which an earlier run left: %v", p.Name, err)
			continue
		}
		log.Info("deleted the pod %s, which an earlier run left", p.Name)
	}
}

// expired goes by the pod's own word, and by its age where that can't be read.
func (c *Cluster) expired(p corev1.Pod) bool {
	now := c.options.Now()
	if at, err := time.Parse(time.RFC3339, p.Annotations[expiresAnnotation]); err == nil {
		return now.After(at)
	}
	return now.Sub(p.CreationTimestamp.Time) > time.Hour
}

// remove deletes a pod, also when the run was called off. One that is gone already is as good.
func (c *Cluster) remove(ctx context.Context, conn *connection, namespace, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	at := int64(0)
	err := conn.call(ctx, request{method: http.MethodDelete, api: core, namespace: namespace, resource: "pods", name: name,
		body: metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, GracePeriodSeconds: &at}, op: "delete"}, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		ends := "It ends by itself at its deadline, and the next run deletes it"
		if f.Code == fault.ClusterDenied {
			ends = "It ends by itself at its deadline, and stays until somebody who may deletes it"
		}
		f.Remedy = fmt.Sprintf("%s: kubectl -n %s delete pod %s. %s", ends, namespace, name, f.Remedy)
	}
	return err
}

// watch looks at the pod until it is clear what becomes of it.
func (c *Cluster) watch(ctx context.Context, conn *connection, target Image, p *corev1.Pod, log connector.Log) (outcome, error) {
	w := watcher{cluster: c, target: target, began: c.options.Now(), log: log}
	for {
		if err := c.options.Sleep(ctx, c.options.Poll); err != nil {
			return outcome{}, &fault.Error{Code: fault.Interrupted, Op: "verify that the cluster can pull", Object: target.Reference(), Cause: "the run was interrupted",
				Remedy: "Run it again.", Err: err}
		}
		var now corev1.Pod
		err := conn.get(ctx, p.Namespace, "pods", p.Name, &now)
		if isStatus(err, http.StatusNotFound) {
			return outcome{kind: gone}, nil
		}
		if err != nil {
			return outcome{}, err
		}
		events, err := conn.events(ctx, &now)
		if err != nil {
			return outcome{}, err
		}
		if o, done := w.look(&now, events); done {
			return o, nil
		}
	}
}

// events are the pod's, oldest first.
func (c *connection) events(ctx context.Context, p *corev1.Pod) ([]corev1.Event, error) {
	var all corev1.EventList
	if err := c.list(ctx, core, p.Namespace, "events", "", "involvedObject.uid="+string(p.UID), &all); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all.Items, func(a, b corev1.Event) int { return last(a).Compare(last(b)) })
	return all.Items, nil
}

// last is when an event happened last; the two generations of the API have it in different places.
func last(e corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}
