package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	solver "github.com/moby/buildkit/solver/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// failedLines is how many lines of a failed instruction's output are told with the error; the log has them all.
const failedLines = 3

// explain makes a *fault.Error of what came of a build, unless the checks or the context ended it. The words looked for
// are those of BuildKit 0.8 to 0.33.
func (s *solving) explain(ctx context.Context, err error) error {
	if s.verdict != nil {
		return s.verdict
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.failure != nil && !lost(err) {
		// As it was before the engine got hold of it; old ones leave nothing of it but the words.
		err = s.failure
	}
	text := s.progress.secrets.Replace(err.Error())
	if strings.Contains(text, "failed to push") {
		return s.explainPush(ctx, err)
	}
	failed := s.progress.failed()
	if vertex, ok := errors.AsType[*solver.VertexError](err); ok && s.progress.steps[digest.Digest(vertex.Digest)] != nil {
		failed = s.progress.steps[digest.Digest(vertex.Digest)]
	}
	if failed == nil {
		return s.explainInstruction(err, text, &step{})
	}
	if strings.HasPrefix(failed.name, "exporting cache") || strings.HasPrefix(failed.name, "preparing build cache") {
		return &fault.Error{Code: fault.CacheFailed, Op: "build", Object: s.connector.Label, Err: err,
			Cause:  failed.name + ": " + fault.Bounded(failed.failure),
			Remedy: "Check the input \"cache-to\"; with ignore-error=true in it, a cache that can't be written stops nothing."}
	}
	if ref := pulled.FindStringSubmatch(failed.name); ref != nil {
		return s.explainPull(err, strings.TrimPrefix(ref[1], "docker-image://"), failed.failure)
	}
	return s.explainInstruction(err, text, failed)
}

// pulled finds the image that a step is about that only fetches one, by the names that BuildKit gives such steps.
var pulled = regexp.MustCompile(`(?:load metadata for|resolve image config for|\] FROM) (\S+)`)

// refused finds that a registry wants to know who asks.
var refused = regexp.MustCompile(`\b(401|403)\b|authoriz|denied`)

// explainPull tells of an image that the engine can't pull.
func (s *solving) explainPull(err error, ref, cause string) error {
	cause = fmt.Sprintf("%s can't pull %s: %s", s.engine.name, fault.Bounded(ref), fault.Bounded(cause))
	if s.connector.Recipe.SBOM && strings.Contains(ref, "buildkit-syft-scanner") {
		return &fault.Error{Code: fault.ScannerFailed, Op: "make the bill of materials", Object: s.connector.Label,
			Cause: cause, Remedy: "Let the engine reach docker.io, or leave the input \"sbom\" off.", Err: err}
	}
	line, _ := s.locate(err)
	remedy := "Check FROM in the Dockerfile, and that the engine reaches the registry: it pulls from its own network."
	if s.frontend != "" && strings.Contains(ref, s.frontend) {
		remedy = "The first line of the Dockerfile (# syntax=) names this image; without that line it is read by this program."
		if _, _, where, found := parser.DetectSyntax(s.text); found && len(where) > 0 {
			line = where[0].Start.Line
		}
	} else if refused.MatchString(cause) {
		remedy = "Check that the image exists, and sign in to its registry in an earlier step (docker login)."
	}
	return &fault.Error{Code: fault.BaseImage, Op: "build", Object: s.place(line), Err: err, Remedy: remedy, Cause: cause}
}

// place is a line of the Dockerfile, or the connector where the line is not known.
func (s *solving) place(line int) string {
	if line > 0 && s.file != "" {
		return fmt.Sprintf("%s:%d", s.file, line)
	}
	return s.connector.Label
}

// locate finds the line of the Dockerfile that an error is about, and what stands there.
func (s *solving) locate(err error) (line int, text string) {
	for _, source := range solver.Sources(err) {
		for _, r := range source.Ranges {
			line = int(r.GetStart().GetLine())
		}
	}
	if line == 0 {
		line = lineOfError(err)
	}
	if lines := strings.Split(string(s.text), "\n"); line >= 1 && line <= len(lines) {
		text = strings.TrimSpace(lines[line-1])
	}
	return line, text
}

// stepPrefix is what BuildKit puts before an instruction in a step's name: the stage, and the instruction's number in it.
var stepPrefix = regexp.MustCompile(`^\[[^]]*\] `)

// locateStep finds the instruction that a step's name repeats, for engines that tell no line.
func (s *solving) locateStep(failed *step) (line int, instruction string) {
	name := strings.Join(strings.Fields(stepPrefix.ReplaceAllString(failed.name, "")), " ")
	parsed, err := parser.Parse(bytes.NewReader(s.text))
	if err != nil || name == "" {
		return 0, name
	}
	for _, node := range parsed.AST.Children {
		original := strings.Join(strings.Fields(node.Original), " ")
		if original == name || strings.HasPrefix(name, original+" (") {
			return node.StartLine, name
		}
	}
	return 0, name
}

var (
	exitCode     = regexp.MustCompile(`exit code: \d+.*`)
	noSuchSecret = regexp.MustCompile(`secret (\S+?):? not found`)
	around       = regexp.MustCompile(`^(failed to solve: |rpc error: code = \w+ desc = |failed to run Build function: )+`)
)

// explainInstruction tells of an instruction that failed, or of a Dockerfile that can't be read.
func (s *solving) explainInstruction(err error, text string, failed *step) error {
	line, instruction := s.locate(err)
	cause := around.ReplaceAllString(text, "")
	if line > 0 && failed.name == "" {
		return s.bad(s.file, line, errors.New(cause), "Correct the Dockerfile.")
	}
	if line == 0 {
		line, instruction = s.locateStep(failed)
	}
	remedy := "Correct it; the log above has the whole output."
	if found := noSuchSecret.FindStringSubmatch(text); found != nil {
		id := fault.Bounded(found[1])
		cause = fmt.Sprintf("the secret %s was not given (given: %s)", id, secretNames(s.connector.Recipe.Secrets))
		remedy = "Give it by the input \"build-secrets\": id=" + id + ",env=VARIABLE."
	} else if found := exitCode.FindString(text); found != "" {
		cause = found
	}
	lines := failed.lastLines(s.progress.secrets, failedLines)
	if len(lines) > 0 {
		cause += "; it printed last: " + strings.Join(lines, " | ")
	}
	if strings.Contains(text+strings.Join(lines, " "), "exec format error") {
		remedy = "The program is for another architecture than the engine runs: cross-compile in a stage " +
			"FROM --platform=$BUILDPLATFORM, or install an emulator."
	}
	if instruction != "" {
		cause = fmt.Sprintf("%s: %s", fault.Bounded(instruction), cause)
	}
	return &fault.Error{Code: fault.BuildFailed, Op: "build", Object: s.place(line),
		Cause: fault.Bounded(cause), Remedy: remedy, Err: err}
}
