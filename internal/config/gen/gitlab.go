package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

// ownInput is an input of the GitLab component that is none of the program's.
type ownInput struct {
	name, kind, help string
	// fallback is the default as YAML.
	fallback string
}

var gitlabInputs = []ownInput{
	{"job-name", "string", "Name of the job. What else a job can have is added by a job of this name in the project's own file.", "publish-connector"},
	{"stage", "string", "Stage of the job.", "deploy"},
	{"rules", "array", "When the job runs, as GitLab's rules.", "[{if: $CI_COMMIT_TAG}]"},
	{"job-image", "string", "Container image that the job runs in. A runner without containers needs airbyte-publish on its PATH instead.",
		"ghcr.io/airbyte-publish/airbyte-publish:1"},
	{"docker-in-docker", "boolean", "Start a Docker engine beside the job, which builds the images. The runner has to be privileged.", "false"},
	{"docker-in-docker-image", "string", "Container image of that engine.", "docker:29-dind"},
}

// oidcInput is the program's input that holds the job's token for a cloud, and audienceInput the component's that says
// whom the token is for. Both are there, or none.
const oidcInput = "oidc-token"

var audienceInput = ownInput{"oidc-audience", "string", "Whom the job's OIDC token is for: sts.amazonaws.com for AWS, api://AzureADTokenExchange for Azure, and for Google Cloud " +
	"https://iam.googleapis.com/ with the provider's full name behind it.", "sts.amazonaws.com"}

// component writes templates/publish.yml. GitLab puts the text of an input's value into this file's own text before it
// reads that as YAML, and a list as JSON. So every value stands alone in a block scalar, where one line of text means
// nothing but itself, whatever is in it. Secrets are no inputs: GitLab shows those, and hides only masked variables.
func component(inputs []config.Input) []byte {
	own := slices.Clone(gitlabInputs)
	oidc := slices.ContainsFunc(inputs, func(i config.Input) bool { return i.Name == oidcInput })
	if oidc {
		own = append(own, audienceInput)
	}
	shown := slices.DeleteFunc(slices.Clone(inputs), func(i config.Input) bool { return hidden(i, inputs) })
	var b bytes.Buffer
	fmt.Fprintf(&b, "# This file is %s.\n", generated)
	b.WriteString("# A component for GitLab 17.0 and later. docs/ci/gitlab.md tells how to use it.\nspec:\n  inputs:\n")
	for _, i := range own {
		fmt.Fprintf(&b, "    %s:\n      description: %s\n      type: %s\n      default: %s\n", i.name, quote(i.help), i.kind, i.fallback)
	}
	for _, i := range shown {
		fmt.Fprintf(&b, "    %s:\n      description: %s\n      type: %s\n", i.Name, quote(i.Help), gitlabType(i.Kind))
		if i.Kind == config.Enum {
			fmt.Fprintf(&b, "      options: [%s]\n", quoteAll(options(i)))
		}
		fmt.Fprintf(&b, "      default: %s\n", fallback(i))
	}
	b.WriteString(`---
.airbyte-publish-docker-in-docker-false:
  interruptible: false

.airbyte-publish-docker-in-docker-true:
  interruptible: false
  services:
    - name: $[[ inputs.docker-in-docker-image ]]
      alias: docker
  variables:
    DOCKER_HOST: tcp://docker:2376
    DOCKER_TLS_CERTDIR: /certs
    DOCKER_TLS_VERIFY: '1'
    DOCKER_CERT_PATH: /certs/client

"$[[ inputs.job-name ]]":
  extends: .airbyte-publish-docker-in-docker-$[[ inputs.docker-in-docker ]]
  stage: $[[ inputs.stage ]]
  rules: $[[ inputs.rules ]]
  image:
    name: $[[ inputs.job-image ]]
    entrypoint: ['']
`)
	if oidc {
		fmt.Fprintf(&b, "  id_tokens:\n    %s:\n      aud: $[[ inputs.%s ]]\n", config.Input{Name: oidcInput}.Env(), audienceInput.name)
	}
	b.WriteString("  variables:\n")
	for _, i := range shown {
		if i.Name == "tag-pattern" {
			// A dollar sign means the end of a line there, and no variable.
			fmt.Fprintf(&b, "    %s:\n      expand: false\n      value: |\n        $[[ inputs.%s ]]\n", i.Env(), i.Name)
			continue
		}
		fmt.Fprintf(&b, "    %s: |\n      $[[ inputs.%s ]]\n", i.Env(), i.Name)
	}
	b.WriteString(`  script:
    - airbyte-publish publish
  artifacts:
    when: always
    expose_as: Airbyte Publish
    paths: [airbyte-publish.md]
    reports:
      dotenv: airbyte-publish.env
`)
	return b.Bytes()
}

// hidden tells that an input is a secret, or names the file of one.
func hidden(i config.Input, inputs []config.Input) bool {
	return i.Secret || slices.ContainsFunc(inputs, func(other config.Input) bool { return other.Secret && i.Name == other.Name+"-file" })
}

// gitlabType is the type of an input's value in a component.
func gitlabType(k config.Kind) string {
	switch k {
	case config.List, config.Lines:
		return "array"
	case config.Bool:
		return "boolean"
	case config.Int:
		return "number"
	default:
		return "string"
	}
}

// options are the values of an Enum; without a default, also none of them.
func options(i config.Input) []string {
	if i.Default == "" {
		return append([]string{""}, i.Values...)
	}
	return i.Values
}

// fallback is an input's default as YAML. A component's input that has none must be given.
func fallback(i config.Input) string {
	switch gitlabType(i.Kind) {
	case "array":
		return "[" + quoteAll(strings.FieldsFunc(i.Default, func(r rune) bool { return r == ',' || r == '\n' })) + "]"
	case "boolean", "number":
		return i.Default
	default:
		return quote(i.Default)
	}
}

func quoteAll(items []string) string {
	var quoted []string
	for _, item := range items {
		quoted = append(quoted, quote(item))
	}
	return strings.Join(quoted, ", ")
}
