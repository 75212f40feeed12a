package build

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	solver "github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// failedLines is how many lines of a failed instruction's output are told with the error; the log has them all.
const failedLines = 10

// explain makes a *fault.Error of what came of a build, unless the checks or the context ended it. The words looked for
// are those of BuildKit 0.8 to 0.33.
func (s *solving) explain(ctx context.Context, err error) error {
	if s.verdict != nil {
		return s.verdict
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := s.progress.secrets.Replace(err.Error())
	if strings.Contains(text, "failed to push") {
		return s.explainPush(ctx, err)
	}
	if name, failure, found := s.progress.failed(func(name string) bool {
		return strings.HasPrefix(name, "exporting cache") || strings.HasPrefix(name, "preparing build cache")
	}); found && !isVertex(err) {
		return &fault.Error{Code: fault.CacheFailed, Op: "build", Object: s.connector.Label, Err: err,
			Cause:  name + ": " + fault.Bounded(failure),
			Remedy: "Check the input \"cache-to\"; with ignore-error=true in it, a cache that can't be written stops nothing."}
	}
	if source := pulled.FindStringSubmatch(text); source != nil {
		return s.explainPull(err, source[1], source[2])
	}
	return s.explainInstruction(err, text)
}

func isVertex(err error) bool {
	_, ok := errors.AsType[*solver.VertexError](err)
	return ok
}

// pulled finds an image that could not be pulled, and why.
var pulled = regexp.MustCompile(`(?s)(?:failed to resolve source metadata for|failed to load metadata for|failed to copy:|failed to pull and unpack image) "?([^\s"]+?)"?: (.*)`)

// explainPull tells of an image that the engine can't pull.
func (s *solving) explainPull(err error, ref, cause string) error {
	if s.connector.Recipe.SBOM && strings.Contains(ref, "buildkit-syft-scanner") {
		return &fault.Error{Code: fault.ScannerFailed, Op: "make the bill of materials", Object: s.connector.Label, Err: err,
			Cause:  fmt.Sprintf("%s can't pull the scanner %s: %s", s.engine.name, fault.Bounded(ref), fault.Bounded(cause)),
			Remedy: "Let the engine reach docker.io, or leave the input \"sbom\" off."}
	}
	remedy := "Check FROM in the Dockerfile, and that the engine reaches the registry: it pulls from its own network."
	if strings.Contains(cause, "401") || strings.Contains(cause, "403") || strings.Contains(cause, "authoriz") || strings.Contains(cause, "denied") {
		remedy = "Check that the image exists, and sign in to its registry in an earlier step (docker login): the engine is given that."
	}
	return &fault.Error{Code: fault.BaseImage, Op: "build", Object: s.where(err), Err: err, Remedy: remedy,
		Cause: fmt.Sprintf("%s can't pull %s: %s", s.engine.name, fault.Bounded(ref), fault.Bounded(cause))}
}

// where is the place in the Dockerfile that an error is about, or the connector.
func (s *solving) where(err error) string {
	if line, _ := s.locate(err); line > 0 && s.file != "" {
		return fmt.Sprintf("%s:%d", s.file, line)
	}
	return s.connector.Label
}

// locate finds the line of the Dockerfile that an error is about, and what stands there.
func (s *solving) locate(err error) (line int, text string) {
	for _, source := range solver.Sources(err) {
		for _, r := range source.Ranges {
			line = int(r.GetStart().GetLine())
			lines := strings.Split(string(s.text), "\n")
			if line >= 1 && line <= len(lines) {
				return line, strings.TrimSpace(lines[line-1])
			}
		}
	}
	return line, ""
}

var (
	exitCode     = regexp.MustCompile(`did not complete successfully: (exit code: \d+.*)`)
	noSuchSecret = regexp.MustCompile(`secret (\S+): not found`)
	around       = regexp.MustCompile(`^(failed to solve: |rpc error: code = \w+ desc = |failed to run Build function: )+`)
)

// explainInstruction tells of an instruction that failed, or of a Dockerfile that can't be read.
func (s *solving) explainInstruction(err error, text string) error {
	line, instruction := s.locate(err)
	cause := around.ReplaceAllString(text, "")
	remedy := "Correct it; the log above has the whole output."
	if found := noSuchSecret.FindStringSubmatch(text); found != nil {
		cause = fmt.Sprintf("the secret %s was not given (given: %s)", fault.Bounded(found[1]), secretNames(s.connector.Recipe.Secrets))
		remedy = "Give it by the input \"build-secrets\": id=" + fault.Bounded(found[1]) + ",env=VARIABLE."
	}
	vertex, ran := errors.AsType[*solver.VertexError](err)
	if !ran && line > 0 {
		if e := (*fault.Error)(nil); errors.As(s.bad(s.file, line, errors.New(cause), "Correct the Dockerfile."), &e) {
			e.Err = err
			return e
		}
	}
	if found := exitCode.FindStringSubmatch(text); found != nil {
		cause = found[1]
		if strings.Contains(text, "exec format error") {
			remedy = "The program is for another architecture than the engine runs: cross-compile FROM --platform=$BUILDPLATFORM, or install an emulator."
		}
	}
	if ran {
		cause = s.withOutput(cause, digest.Digest(vertex.Digest))
	}
	if instruction != "" {
		cause = fmt.Sprintf("%s: %s", fault.Bounded(instruction), cause)
	}
	return &fault.Error{Code: fault.BuildFailed, Op: "build", Object: s.where(err), Cause: fault.Bounded(cause), Remedy: remedy, Err: err}
}

// withOutput adds the last line that a failed instruction printed to the cause, and the last few to the log, where they
// are seen beside the error.
func (s *solving) withOutput(cause string, vertex digest.Digest) string {
	lines := s.progress.lastLines(vertex, failedLines)
	if len(lines) == 0 || lines[len(lines)-1] == "" {
		return cause
	}
	s.log.Untrusted("the end of what the failed instruction printed", strings.Join(lines, "\n"))
	return cause + ", and the last line of its output is: " + lines[len(lines)-1]
}

func cacheFault(c connector.Connector, input string, err error) error {
	return &fault.Error{Code: fault.CacheFailed, Op: "read the input", Object: input + " for " + c.Label, Cause: fault.Bounded(err.Error()),
		Remedy: "Write type=registry,ref=REFERENCE, type=local,src=FOLDER (dest=FOLDER to write), type=gha, or type=inline to write.", Err: err}
}
