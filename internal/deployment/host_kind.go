package deployment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// kind's labels of the containers that are its nodes.
const (
	kindCluster = "io.x-k8s.kind.cluster"
	kindRole    = "io.x-k8s.kind.role"
	// kindBalancer is the role of the one that runs no pods.
	kindBalancer = "external-load-balancer"
)

// intoCluster loads into every node of a kind cluster that runs pods, as "kind load" does.
func (l *loading) intoCluster(ctx context.Context, cluster string) error {
	nodes, err := l.nodes(ctx, cluster)
	if err != nil {
		return err
	}
	// All are looked at before any is changed.
	var todo []string
	for _, node := range nodes {
		held, err := l.heldBy(ctx, node)
		switch {
		case err != nil:
			return err
		case slices.Contains(l.ids, held):
			l.log.Info("the node %s has %s already", node, l.Reference())
			continue
		case held != "" && !l.parent.options.Overwrite:
			return l.nodeTagDiffers(node, held)
		}
		todo = append(todo, node)
	}
	for _, node := range todo {
		if err := l.intoNode(ctx, node); err != nil {
			return err
		}
		held, err := l.heldBy(ctx, node)
		if err != nil {
			return err
		}
		if !slices.Contains(l.ids, held) {
			return l.loadFault(fmt.Errorf("afterwards the node %s has %q under the tag and not this image", node, held))
		}
		l.log.Info("loaded %s into the node %s", l.Reference(), node)
	}
	return nil
}

// nodes are the names of the containers that are a cluster's nodes.
func (l *loading) nodes(ctx context.Context, cluster string) ([]string, error) {
	found, err := l.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", kindCluster)})
	if err != nil {
		return nil, l.failed(fault.LoadFailed, "look for the nodes of "+cluster, l.Reference(), err)
	}
	var nodes, stopped, others []string
	for _, c := range found.Items {
		name := c.ID
		if len(c.Names) > 0 {
			name = strings.TrimPrefix(c.Names[0], "/")
		}
		switch is := c.Labels[kindCluster]; {
		case is != cluster:
			if !slices.Contains(others, is) {
				others = append(others, is)
			}
		case c.Labels[kindRole] == kindBalancer:
		case c.State != "running":
			stopped = append(stopped, name)
		default:
			nodes = append(nodes, name)
		}
	}
	fail := &fault.Error{Code: fault.NoKindNode, Op: "load into the kind cluster", Object: cluster + " at " + l.at()}
	switch {
	case len(stopped) > 0:
		return nil, l.stopped(stopped)
	case len(nodes) > 0:
		slices.Sort(nodes)
		return nodes, nil
	case len(others) > 0:
		slices.Sort(others)
		fail.Cause = "this engine runs no such cluster, but " + fault.Bounded(strings.Join(others, ", "))
		fail.Remedy = "Name one of these."
	default:
		fail.Cause = "this engine runs no kind cluster"
		fail.Remedy = "Name the engine of the machine on which abctl or kind was run, by docker-host or DOCKER_HOST; abctl's cluster is airbyte-abctl."
	}
	return nil, fail
}

func (l *loading) stopped(nodes []string) error {
	slices.Sort(nodes)
	return &fault.Error{Code: fault.NoKindNode, Op: "load into the kind cluster", Object: "at " + l.at(),
		Cause:  "its node " + fault.Bounded(strings.Join(nodes, ", ")) + " does not run",
		Remedy: "Start it: docker start " + fault.Bounded(strings.Join(nodes, " ")) + "."}
}

// ctr is a command of containerd's client in a node, for the images that the kubelet sees.
func ctr(args ...string) []string { return append([]string{"ctr", "--namespace=k8s.io"}, args...) }

// heldBy is the digest of what the image's tag is in a node, or empty where there is no such tag.
func (l *loading) heldBy(ctx context.Context, node string) (string, error) {
	out, err := l.run(ctx, node, nil, ctr("images", "ls", "name=="+l.name+":"+l.Tag)...)
	if err != nil {
		return "", l.loadFault(err)
	}
	for line := range strings.Lines(out) {
		// REF TYPE DIGEST SIZE PLATFORMS LABELS
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == l.name+":"+l.Tag {
			return fields[2], nil
		}
	}
	return "", nil
}

// intoNode streams the image into a node's containerd.
func (l *loading) intoNode(ctx context.Context, node string) error {
	args := []string{"images", "import", "--all-platforms"}
	if snapshotter := l.snapshotter(ctx, node); snapshotter != "" {
		args = append(args, "--snapshotter="+snapshotter)
	}
	err := l.stream(func(r io.Reader) error {
		_, err := l.run(ctx, node, r, ctr(append(args, "-")...)...)
		return err
	})
	if err != nil {
		return l.loadFault(err)
	}
	return nil
}

// configuredSnapshotter is the line of containerd's configuration; its CRI plug-in is the only one that has it.
var configuredSnapshotter = regexp.MustCompile(`(?m)^\s*snapshotter = ["']([a-z][a-z0-9_-]*)["']`)

// snapshotter is the one that the node's kubelet uses, or empty where that can't be told; ctr then takes its own default,
// and the kubelet unpacks the image itself.
func (l *loading) snapshotter(ctx context.Context, node string) string {
	out, err := l.run(ctx, node, nil, "containerd", "config", "dump")
	if err != nil {
		return ""
	}
	if m := configuredSnapshotter.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}

// run runs a command in a node and returns what it printed.
func (l *loading) run(ctx context.Context, node string, stdin io.Reader, command ...string) (string, error) {
	created, err := l.ExecCreate(ctx, node, client.ExecCreateOptions{
		AttachStdin: stdin != nil, AttachStdout: true, AttachStderr: true, Cmd: command})
	if errdefs.IsConflict(err) {
		// It was stopped, or paused, since it was listed.
		return "", l.stopped([]string{node})
	}
	if err != nil {
		return "", err
	}
	attached, err := l.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", err
	}
	defer attached.Close()
	// The connection knows no context.
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	sent := make(chan error, 1)
	go func() {
		var err error
		if stdin != nil {
			_, err = io.Copy(attached.Conn, stdin)
		}
		sent <- errors.Join(err, attached.CloseWrite())
	}()
	stdout, stderr := &boundedBuffer{limit: 1 << 20}, &boundedBuffer{}
	_, err = stdcopy.StdCopy(stdout, stderr, attached.Reader)
	if err != nil {
		return "", err
	}
	inspected, err := l.ExecInspect(ctx, created.ID, client.ExecInspectOptions{})
	if err != nil {
		return "", err
	}
	if inspected.ExitCode != 0 {
		return "", fmt.Errorf("%s in %s: %s (exit code %d)", command[0], node, fault.Bounded(stderr.String()+" "+stdout.String()), inspected.ExitCode)
	}
	if stdin != nil {
		if err := <-sent; err != nil {
			return "", err
		}
	}
	return stdout.String(), nil
}

// nodeTagDiffers explains why a tag in a node is not moved.
func (l *loading) nodeTagDiffers(node, held string) error {
	name := l.name + ":" + l.Tag
	return &fault.Error{Code: fault.HostTagDiffers, Op: "load into the kind node", Object: l.Reference() + " in " + node,
		Cause: fmt.Sprintf("the node has another image under this tag (%s, and this one is %s), pods that run keep it, and Airbyte keeps the spec per tag",
			fault.Bounded(held), l.ids[1]),
		Remedy: "Publish under a new tag; or remove it by docker exec " + node + " " + strings.Join(ctr("images", "rm", name), " ") + "."}
}

// readMessages reads the engine's answer to a load. An error comes as one of its messages, with the status 200.
func readMessages(r io.Reader) error {
	var last []byte
	for decoder := json.NewDecoder(r); ; {
		var message struct {
			Error       string `json:"error"`
			ErrorDetail struct {
				Message string `json:"message"`
			} `json:"errorDetail"`
		}
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the engine's answer %q can't be read: %w", fault.Bounded(string(last)), err)
		}
		if err := json.Unmarshal(raw, &message); err == nil && (message.Error != "" || message.ErrorDetail.Message != "") {
			if message.ErrorDetail.Message != "" {
				return errors.New(message.ErrorDetail.Message)
			}
			return errors.New(message.Error)
		}
		last = bytes.Clone(raw)
	}
}
