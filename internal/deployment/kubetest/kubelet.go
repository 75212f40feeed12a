//go:build linux

package kubetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Node is the name of the node that a Kubelet plays.
const Node = "node-1"

// Stage is one state that a pod is seen in, with the events that go with it.
type Stage struct {
	// Waiting or Terminated is the state of the main container; neither means that it is being created, unless Running.
	Waiting    *corev1.ContainerStateWaiting
	Terminated *corev1.ContainerStateTerminated
	Running    bool
	// ImageID is what the node says that it pulled.
	ImageID string
	// Unscheduled is why no node takes the pod; empty means that it is on Node.
	Unscheduled string
	// Phase, Reason and Message are the pod's own where they do not follow from the container's state.
	Phase           corev1.PodPhase
	Reason, Message string
	Events          []corev1.Event
	// For is how long the stage lasts before the next one; the last one lasts.
	For time.Duration
}

// Warning is an event as a kubelet records it when something is wrong.
func Warning(reason, message string) corev1.Event {
	return corev1.Event{Type: corev1.EventTypeWarning, Reason: reason, Message: message}
}

// PullFails are the stages of a pull that fails with these words of a container runtime: ErrImagePull, and then the
// kubelet waits before it tries again.
func PullFails(image, words string, before ...corev1.Event) []Stage {
	failed := fmt.Sprintf("Failed to pull image %q: %s", image, words)
	return []Stage{
		{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: words}, For: 300 * time.Millisecond,
			Events: append(before, Warning("Failed", failed), Warning("Failed", "Error: ErrImagePull"))},
		{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", image, words)},
			Events: []corev1.Event{{Type: corev1.EventTypeNormal, Reason: "BackOff", Message: fmt.Sprintf("Back-off pulling image %q", image)}, Warning("Failed", "Error: ImagePullBackOff")}},
	}
}

// Ends is the stage of a container that ended.
func Ends(code int32, reason, message string) Stage {
	return Stage{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}}
}

// Play says what happens to a pod. It gets the pod as it was made and the pull secrets that it names and that are there.
type Play = func(p *corev1.Pod, secrets map[string]corev1.Secret) []Stage

// Kubelet plays a node's part for the pods of a namespace that carry our label.
type Kubelet struct {
	n Namespace

	mu     sync.Mutex
	played Play
	seen   map[string]*corev1.Pod
}

// Plays has what play says happen to the pods from now on.
func (k *Kubelet) Plays(play Play) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.played = play
}

// Kubelet starts one that ends with the test.
func (n Namespace) Kubelet(t testing.TB, play Play) *Kubelet {
	t.Helper()
	k := &Kubelet{played: play, n: n, seen: map[string]*corev1.Pod{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { k.run(ctx, &wg) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return k
}

// Pods are all that the kubelet has seen, by their names.
func (k *Kubelet) Pods() map[string]*corev1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[string]*corev1.Pod{}
	for name, p := range k.seen {
		all[name] = p
	}
	return all
}

// selector finds the pods that are looked after.
const selector = "?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dairbyte-publish"

func (k *Kubelet) run(ctx context.Context, wg *sync.WaitGroup) {
	for ctx.Err() == nil {
		var all corev1.PodList
		if code, content, err := k.n.Do(http.MethodGet, k.n.Path("Pod", "")+selector, "", nil); err == nil && code == http.StatusOK && json.Unmarshal(content, &all) == nil {
			for _, p := range all.Items {
				k.mu.Lock()
				_, known := k.seen[p.Name]
				k.seen[p.Name] = &p
				k.mu.Unlock()
				if !known {
					wg.Go(func() { k.play(ctx, &p) })
				}
			}
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (k *Kubelet) play(ctx context.Context, p *corev1.Pod) {
	secrets := map[string]corev1.Secret{}
	for _, ref := range p.Spec.ImagePullSecrets {
		var s corev1.Secret
		if code, content, err := k.n.Do(http.MethodGet, k.n.Path("Secret", ref.Name), "", nil); ref.Name != "" && err == nil && code == http.StatusOK && json.Unmarshal(content, &s) == nil {
			secrets[ref.Name] = s
		}
	}
	k.mu.Lock()
	play := k.played
	k.mu.Unlock()
	bound := false
	for _, s := range play(p, secrets) {
		if s.Unscheduled == "" && !bound {
			// The scheduler's part.
			_, _, _ = k.n.Do(http.MethodPost, k.n.Path("Pod", p.Name)+"/binding", "", map[string]any{"apiVersion": "v1", "kind": "Binding",
				"metadata": map[string]any{"name": p.Name}, "target": map[string]any{"apiVersion": "v1", "kind": "Node", "name": Node}})
			bound = true
		}
		for _, e := range s.Events {
			k.record(p, e)
		}
		// A pod that is gone has no status to set, which is no failure of the test.
		_, _, _ = k.n.Do(http.MethodPatch, k.n.Path("Pod", p.Name)+"/status", "application/strategic-merge-patch+json", map[string]any{"status": status(p, s)})
		pause(ctx, s.For)
	}
}

func (k *Kubelet) record(p *corev1.Pod, e corev1.Event) {
	e.APIVersion, e.Kind = "v1", "Event"
	e.Namespace, e.GenerateName = p.Namespace, p.Name+"."
	e.InvolvedObject = corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, Namespace: p.Namespace, UID: p.UID}
	e.Source = corev1.EventSource{Component: "kubelet", Host: Node}
	e.FirstTimestamp.Time, e.LastTimestamp.Time, e.Count = time.Now(), time.Now(), 1
	_, _, _ = k.n.Do(http.MethodPost, k.n.Path("Event", ""), "", e)
}

// status is the pod's status as a kubelet, or for a pod without a node the scheduler, sets it.
func status(p *corev1.Pod, s Stage) corev1.PodStatus {
	st := corev1.PodStatus{Phase: corev1.PodPending, Reason: s.Reason, Message: s.Message}
	if s.Unscheduled != "" {
		st.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: s.Unscheduled}}
		return st
	}
	st.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	c := corev1.ContainerStatus{Name: "main", Image: p.Spec.Containers[0].Image, ImageID: s.ImageID}
	switch {
	case s.Waiting != nil:
		c.State.Waiting = s.Waiting
	case s.Terminated != nil:
		c.State.Terminated = s.Terminated
		st.Phase = corev1.PodSucceeded
		if s.Terminated.ExitCode != 0 {
			st.Phase = corev1.PodFailed
		}
	case s.Running:
		c.State.Running = &corev1.ContainerStateRunning{}
		st.Phase = corev1.PodRunning
	case s.Phase == "":
		c.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
	if s.Phase != "" {
		st.Phase = s.Phase
	} else {
		st.ContainerStatuses = []corev1.ContainerStatus{c}
	}
	return st
}
