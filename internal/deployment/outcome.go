package deployment

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// kind is what became of a pod.
type kind int

const (
	ran kind = iota
	notPulled
	notStarted
	notScheduled
	specFailed
	gone
	ended
	unfinished
)

// outcome is what became of a pod, with Kubernetes' own words for it.
type outcome struct {
	kind kind
	// reason is one word of Kubernetes', text the sentence that goes with it.
	reason, text string
	// exitCode is the container's; imageID is what the node says that it pulled, node its name.
	exitCode      int32
	imageID, node string
	// missing are the words about pull secrets that the kubelet did not find.
	missing string
}

// watcher follows one pod. What may mend itself is waited for as long as the cluster's patience lasts.
type watcher struct {
	cluster *Cluster
	target  Image
	began   time.Time
	log     connector.Log
	// trouble is the reason that is being waited out, and since is when it was first seen.
	trouble string
	since   time.Time
	said    string
}

// Reasons for which a kubelet does not pull; ImagePullBackOff only tells that it waits before it tries again.
var pullReasons = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"}

// Reasons for which a kubelet does not start a container of an image that it has.
var startReasons = []string{"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun", "PreCreateHookError", "PreStartHookError"}

// look tells whether it is clear what becomes of the pod, and what.
func (w *watcher) look(p *corev1.Pod, events []corev1.Event) (outcome, bool) {
	o := outcome{node: p.Spec.NodeName, missing: text(events, "FailedToRetrieveImagePullSecret")}
	status := containerStatus(p)
	switch {
	case status != nil && status.State.Terminated != nil:
		return w.terminated(o, status), true
	case p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded:
		o.kind, o.reason, o.text = ended, p.Status.Reason, p.Status.Message
		return o, true
	case status != nil && status.State.Waiting != nil && slices.Contains(pullReasons, status.State.Waiting.Reason):
		return w.waitingToPull(o, status.State.Waiting, events)
	case status != nil && status.State.Waiting != nil && slices.Contains(startReasons, status.State.Waiting.Reason):
		o.kind, o.reason, o.text = notStarted, status.State.Waiting.Reason, status.State.Waiting.Message
		// A kubelet that has not read a config map yet says the same and reads it a moment later.
		return o, !strings.Contains(o.text, "failed to sync") || w.patienceIsOver(o)
	case status != nil && status.State.Running != nil:
		w.say("the image is there, and spec runs")
		o.kind, o.reason, o.text = unfinished, "Running", "spec does not end"
	case unschedulable(p) != nil:
		condition := unschedulable(p)
		w.say("no node takes the pod yet: " + fault.Bounded(condition.Message))
		o.kind, o.reason, o.text = notScheduled, condition.Reason, condition.Message
		return o, w.patienceIsOver(o)
	default:
		o.kind, o.reason, o.text = unfinished, "Pending", lastWarning(events)
		if o.text == "" {
			o.text = "the pod was not started"
		}
	}
	return o, w.cluster.options.Now().Sub(w.began) > w.cluster.options.Deadline
}

func containerStatus(p *corev1.Pod) *corev1.ContainerStatus {
	for n := range p.Status.ContainerStatuses {
		if p.Status.ContainerStatuses[n].Name == mainContainer {
			return &p.Status.ContainerStatuses[n]
		}
	}
	return nil
}

func unschedulable(p *corev1.Pod) *corev1.PodCondition {
	for n := range p.Status.Conditions {
		if c := &p.Status.Conditions[n]; c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c
		}
	}
	return nil
}

// terminated reads the end of the container.
func (w *watcher) terminated(o outcome, status *corev1.ContainerStatus) outcome {
	end := status.State.Terminated
	o.exitCode, o.imageID, o.reason, o.text = end.ExitCode, status.ImageID, end.Reason, end.Message
	switch {
	case end.ExitCode == 0:
		o.kind = ran
	case slices.Contains(startReasons, end.Reason):
		o.kind = notStarted
	default:
		o.kind = specFailed
	}
	return o
}

// waitingToPull decides whether a pull that failed may still succeed.
func (w *watcher) waitingToPull(o outcome, waiting *corev1.ContainerStateWaiting, events []corev1.Event) (outcome, bool) {
	o.kind, o.reason, o.text = notPulled, waiting.Reason, waiting.Message
	// "Back-off pulling image" tells nothing; why it does so is in the events, and in newer versions behind it.
	if _, why, found := strings.Cut(o.text, "ErrImagePull: "); found {
		o.text = why
	} else if why := text(events, "Failed"); strings.Contains(why, "Failed to pull") {
		o.text = why
	}
	if waiting.Reason == "ImagePullBackOff" && strings.HasPrefix(o.text, "Back-off") {
		return o, w.patienceIsOver(o)
	}
	if c := classify(o.text, w.target); !c.definite {
		w.say("the pull failed and is tried again: " + fault.Bounded(o.text))
		return o, w.patienceIsOver(o)
	}
	return o, true
}

// patienceIsOver tells whether the same kind of trouble has lasted as long as one waits for it.
func (w *watcher) patienceIsOver(o outcome) bool {
	now := w.cluster.options.Now()
	if trouble := fmt.Sprint(o.kind); w.trouble != trouble {
		w.trouble, w.since = trouble, now
	}
	return now.Sub(w.since) >= w.cluster.options.Patience
}

func (w *watcher) say(words string) {
	if w.said != words {
		w.said = words
		w.log.Info("%s", words)
	}
}

// text is the newest event's with the reason. "Error: ErrImagePull" has the same reason as the one that tells why.
func text(events []corev1.Event, reason string) string {
	for _, e := range slices.Backward(events) {
		if e.Reason == reason && !strings.HasPrefix(e.Message, "Error: ") {
			return e.Message
		}
	}
	return ""
}

func lastWarning(events []corev1.Event) string {
	for _, e := range slices.Backward(events) {
		if e.Type == corev1.EventTypeWarning {
			return e.Reason + ": " + e.Message
		}
	}
	return ""
}

// class is a kind of failed pull.
type class struct {
	code fault.Code
	// words are parts of what kubelets and container runtimes say, in lower case.
	words []string
	// definite tells that another try would end the same.
	definite bool
}

// classes are looked through in this order: a runtime puts the reason of a refusal behind a sentence about something else,
// as in "failed to authorize: failed to fetch anonymous token: … dial tcp: i/o timeout".
var classes = []class{
	{fault.WrongArchitecture, []string{"no match for platform", "no matching manifest for", "no image found in manifest list for architecture", "no image found in image index for architecture",
		"does not match the specified platform", "exec format error"}, true},
	// The image was found, and what it is made of could not be unpacked; what follows may be any word, "not found" too.
	{fault.PullFailed, []string{"mount callback failed", "failed to extract layer", "failed to prepare extraction", "no space left on device"}, false},
	{fault.PullRateLimited, []string{"toomanyrequests", "429 too many requests", "too many requests", "pull qps exceeded", "rate limit"}, false},
	{fault.PullTLS, []string{"x509:", "http response to https client", "failed to verify certificate", "remote error: tls"}, true},
	{fault.PullUnreachable, []string{"no such host", "connection refused", "i/o timeout", "network is unreachable", "no route to host", "server misbehaving", "tls handshake timeout",
		"context deadline exceeded", "connection reset", "407 proxy", "proxy authentication required", "502 bad gateway", "503 service unavailable", "504 gateway"}, false},
	{fault.DeploymentDenied, []string{"pull access denied", "401 unauthorized", "403 forbidden", "unauthorized", "authentication required", "no basic auth credentials", "failed to authorize",
		"authorization failed", "insufficient_scope", "access forbidden", "authorization token has expired", "denied"}, true},
	{fault.PullNotFound, []string{"manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "not found", "does not exist"}, true},
}

// classify finds out what a failed pull of an image is due to. What nobody knows is not definite: it is waited for.
func classify(text string, i Image) class {
	lower := strings.ToLower(i.takenOut(text))
	for _, c := range classes {
		if slices.ContainsFunc(c.words, func(w string) bool { return strings.Contains(lower, w) }) {
			return c
		}
	}
	return class{code: fault.PullFailed, definite: strings.Contains(lower, "couldn't parse image") || strings.Contains(lower, "invalidimagename")}
}

// prefix is what containerd and the kubelet put before the reason, each with the whole reference.
var prefix = regexp.MustCompile(`^(Failed to pull image "[^"]*": |rpc error: code = \w+ desc = |failed to pull and unpack image "[^"]*": |failed to resolve (?:reference|image) "[^"]*": |initializing source docker://\S+: )+`)

// transport is how a kubelet tells that a sentence came from the runtime.
var transport = regexp.MustCompile(`rpc error: code = \w+ desc = `)

// plain is what a runtime said, without the parts that only repeat which image it is about.
func plain(text string) string {
	return fault.Bounded(transport.ReplaceAllString(prefix.ReplaceAllString(text, ""), ""))
}

// judge turns an outcome into an error, or into none.
func (c *Cluster) judge(i *installation, target Image, o outcome, log connector.Log) error {
	f := &fault.Error{Op: "verify that the cluster can pull", Object: target.Reference()}
	where := ""
	if o.node != "" {
		where = " on node " + o.node
	}
	switch o.kind {
	case ran:
		return judgeRun(target, o, log)
	case notPulled:
		explainPull(f, i, target, o, where)
	case notStarted:
		explainStart(f, o, where)
	case specFailed:
		explainSpec(f, o, where)
	case notScheduled:
		f.Code = fault.Unschedulable
		f.Cause = fmt.Sprintf("no node takes the pod (%s)", fault.Bounded(o.text))
		f.Remedy = "Connectors' pods would not run either: add nodes, or correct the node selectors, tolerations and resources of jobs (global.jobs.kube and global.jobs.resources in Helm's values)."
	case gone:
		f.Code, f.Cause = fault.PullFailed, "somebody deleted the pod before it ended"
		f.Remedy = "Look for what deletes pods in the namespace (a policy, a descheduler, a node that was drained), and run again."
	case ended:
		f.Code = fault.PullFailed
		f.Cause = fmt.Sprintf("the pod ended before its container did: %s%s", fault.Bounded(strings.TrimSpace(o.reason+" "+o.text)), where)
		f.Remedy = "Evicted, OutOfcpu and OutOfmemory are the node's lack of room, DeadlineExceeded is a pull that takes longer than the deadline: run again, and look at the node's events."
	case unfinished:
		f.Code = fault.PullFailed
		f.Cause = fmt.Sprintf("it took longer than %s%s (%s)", c.options.Deadline, where, plain(o.text))
		f.Remedy = "Look at the events of the namespace for what the node waits for: a slow pull of a big image, a network that is not ready, a volume."
	}
	return f
}

// judgeRun looks at which image ran. Another digest is no error: of an image for several platforms, some runtimes tell the
// one of the platform that they took.
func judgeRun(target Image, o outcome, log connector.Log) error {
	pulled := o.imageID[strings.LastIndex(o.imageID, "@")+1:]
	if target.Digest != "" && strings.Contains(o.imageID, "@sha256:") && pulled != target.Digest {
		log.Finding(connector.Finding{Code: fault.PulledAnother, Severity: connector.Warning,
			Message: fmt.Sprintf("node %s pulled %s as %s, and the registry's tag is %s.", o.node, target.Reference(), fault.Bounded(pulled), target.Digest),
			Remedy:  "Unless that is the part for the node's platform of an image for several, a mirror or cache answers the nodes with an older image: have it forget the tag, or publish under a new one."})
	}
	log.Info("the cluster pulled %s on node %s and spec ran", target.Reference(), o.node)
	return nil
}

// explainPull says why a pull failed and what to do with this registry.
func explainPull(f *fault.Error, i *installation, target Image, o outcome, where string) {
	a := adviceFor(target.host())
	f.Code = classify(o.text, target).code
	f.Cause = fmt.Sprintf("%s%s: %s", o.reason, where, plain(o.text))
	names := i.named()
	switch f.Code {
	case fault.DeploymentDenied:
		f.Remedy = a.denied + deniedDetail(i, o, names)
	case fault.PullNotFound:
		f.Remedy = "Check that the tag is there for those who pull: registries answer so where a right is missing, too. " + a.denied
	case fault.PullUnreachable:
		if strings.Contains(strings.ToLower(o.text), "proxy authentication required") {
			f.Remedy = "The proxy that the nodes' container runtime goes through wants credentials: put them into its HTTPS_PROXY, or the registry's host into its NO_PROXY, on every node."
			break
		}
		f.Remedy = "The nodes, not this machine, must reach the registry: check its name in the nodes' DNS, their way out, proxies and firewalls. An address such as localhost is the node itself."
	case fault.PullTLS:
		f.Remedy = "The nodes' container runtime must trust the registry's certificate (containerd: a hosts.toml in /etc/containerd/certs.d/" + target.host() +
			" with the certificate, on every node) or be told that it is plain http."
	case fault.PullRateLimited:
		f.Remedy = "Give connectors' pods a pull secret: signed-in pulls have a higher limit. Or pull through a mirror."
	case fault.WrongArchitecture:
		f.Remedy = architectureRemedy
	default:
		f.Remedy = "The runtime's own words above tell. An image with layers in a form that the node's containerd is too old for must be built with gzip layers; \"no space left on device\" is the node's disk."
	}
	if o.missing != "" && f.Code != fault.WrongArchitecture {
		f.Cause += "; " + fault.Bounded(o.missing)
	}
}

// deniedDetail says which credentials the node had, as far as that can be told.
func deniedDetail(i *installation, o outcome, names []string) string {
	lower := strings.ToLower(o.text)
	anonymous := strings.Contains(lower, "anonymous token") || strings.Contains(lower, "no basic auth credentials")
	switch {
	case o.missing != "":
		return fmt.Sprintf(" The secret that is named must be in the namespace %s: airbyte-publish pull-secret --apply makes it.", i.jobNamespace())
	case len(names) == 0:
		return " Connectors' pods are given no pull secret: airbyte-publish pull-secret --apply --wire makes one and tells Airbyte of it."
	case anonymous:
		return fmt.Sprintf(" The node asked without credentials, so that no secret of %s holds this registry: airbyte-publish pull-secret --apply adds it.", strings.Join(names, ", "))
	}
	return fmt.Sprintf(" The credentials in %s were refused, or may not read this repository.", strings.Join(names, ", "))
}

const architectureRemedy = "Build the image for the nodes' architecture too (platforms: linux/amd64,linux/arm64), or keep connectors' pods on nodes of the image's, by the node selector kubernetes.io/arch of global.jobs.kube.nodeSelector."

func explainStart(f *fault.Error, o outcome, where string) {
	f.Code = fault.ContainerNotStarted
	f.Cause = fmt.Sprintf("%s%s: %s", o.reason, where, plain(o.text))
	lower := strings.ToLower(o.text)
	switch {
	case strings.Contains(lower, "exec format error"):
		f.Code, f.Remedy = fault.WrongArchitecture, architectureRemedy
	case strings.Contains(lower, `"sh"`) && (strings.Contains(lower, "not found") || strings.Contains(lower, "no such file")):
		f.Remedy = "Airbyte starts every connector by sh: base the image on one that has /bin/sh; distroless and scratch images have none."
	case strings.Contains(lower, "runasnonroot"):
		f.Remedy = "The image's user must be one that is not root: end the Dockerfile with USER 1000."
	default:
		f.Remedy = "The image was pulled; what the container needs beside it is missing or refused. The words above name it."
	}
}

func explainSpec(f *fault.Error, o outcome, where string) {
	f.Code = fault.ClusterSpecFailed
	said := ""
	if o.text != "" {
		said = ": " + fault.Bounded(o.text)
	}
	f.Cause = fmt.Sprintf("the image was pulled, and spec ended with exit code %d%s%s", o.exitCode, where, said)
	switch {
	case strings.Contains(strings.ToLower(o.text), "exec format error"):
		f.Code, f.Remedy = fault.WrongArchitecture, architectureRemedy
	case o.exitCode == exitNoEntrypoint:
		f.Remedy = "Set ENV AIRBYTE_ENTRYPOINT in the Dockerfile to the command that starts the connector, with absolute paths."
	case o.exitCode == exitNoSpec:
		f.Remedy = "The connector must print a SPEC message: run its spec on your machine and look at what it prints."
	case o.exitCode == 127 || o.exitCode == 126:
		f.Remedy = "The command in AIRBYTE_ENTRYPOINT is not in the image, or can't be executed by user 1000: it must be an absolute path."
	case o.reason == "OOMKilled" || o.exitCode == 137:
		f.Remedy = "It needed more memory than connectors' pods are given: raise global.jobs.resources.limits.memory, or the definition's resource-requirements."
	default:
		f.Remedy = "Run it on your machine as user 1000, in an empty working directory and without network: what it needs beside that is not there."
	}
}
