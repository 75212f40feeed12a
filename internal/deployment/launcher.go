package deployment

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// change is when a value of a config map was last changed, by the API server's clock.
type change struct {
	at time.Time
	// certain tells that it was this value. Of a writer of several, Kubernetes only keeps when it wrote last.
	certain bool
	// ours tells that we did it.
	ours bool
}

// changeOf looks for who manages the value. Who only touched something else of the config map does not count.
func changeOf(fields []metav1.ManagedFieldsEntry, key string) change {
	var last change
	for _, f := range fields {
		keys := dataKeys(f)
		if f.Time == nil || !keys[key] || f.Time.Time.Before(last.at) {
			continue
		}
		last = change{at: f.Time.Time, certain: len(keys) == 1, ours: f.Manager == fieldManager}
	}
	return last
}

// dataKeys are the keys of an object's data that a field manager manages.
func dataKeys(f metav1.ManagedFieldsEntry) map[string]bool {
	var fields struct {
		Data map[string]json.RawMessage `json:"f:data"`
	}
	if f.FieldsV1 == nil || json.Unmarshal(f.FieldsV1.GetRawBytes(), &fields) != nil {
		return nil
	}
	keys := map[string]bool{}
	for name := range fields.Data {
		if key, ok := strings.CutPrefix(name, "f:"); ok {
			keys[key] = true
		}
	}
	return keys
}

// knowledge is whether the launcher, which reads its list once, knows the present one.
type knowledge int

const (
	known knowledge = iota
	// restarting tells that its restart was asked for and that it still runs as it was.
	restarting
	// doubtful tells that it started before the list may have been changed.
	doubtful
	outdated
)

// knows compares when the launcher started with when its list was changed. Without pods, which not everybody may list, it
// is told by our own change and by the restart that goes with it.
func (i *installation) knows(list setting, pods []corev1.Pod) (k knowledge, started time.Time) {
	restarted, err := time.Parse(time.RFC3339, i.launcher.Spec.Template.Annotations[restartedAt])
	asked := err == nil && !restarted.Before(list.changed.at)
	for _, p := range pods {
		if at := i.startOf(p); !at.IsZero() && p.DeletionTimestamp == nil && (started.IsZero() || at.Before(started)) {
			started = at
		}
	}
	switch {
	case list.changed.at.IsZero():
		return known, started
	case started.IsZero():
		if list.changed.ours && !asked {
			return outdated, started
		}
		return known, started
	case !started.Before(list.changed.at):
		return known, started
	case asked:
		return restarting, started
	case list.changed.certain:
		return outdated, started
	}
	return doubtful, started
}

// startOf is when a launcher's container last started, which is when it was given its variables.
func (i *installation) startOf(p corev1.Pod) time.Time {
	name := i.launcher.Spec.Template.Spec.Containers[i.container].Name
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == name && s.State.Running != nil {
			return s.State.Running.StartedAt.Time
		}
	}
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return time.Time{}
}

// launcherPods are the pods of the launcher.
func (c *connection) launcherPods(ctx context.Context, i *installation) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := c.list(ctx, core, i.namespace, "pods", labelSelector(i.launcher.Spec.Selector.MatchLabels), "", &pods)
	return pods.Items, err
}
