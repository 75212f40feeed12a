package config_test

import (
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

func TestDockerHost(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env  map[string]string
		want config.DockerEngine
	}{
		"none":           {env(), config.DockerEngine{}},
		"off":            {env("load", "off"), config.DockerEngine{}},
		"engine":         {env("load", "docker-host", "docker-host", "unix:///run/a.sock"), config.DockerEngine{Address: "unix:///run/a.sock", Load: true}},
		"kind":           {env("load", "kind:airbyte-abctl"), config.DockerEngine{Load: true, Cluster: "airbyte-abctl"}},
		"ssh":            {env("verify-pull", "docker-host", "docker-host", "ssh://me@host:2222/run/a.sock"), config.DockerEngine{Address: "ssh://me@host:2222/run/a.sock"}},
		"tcp":            {env("docker-host", "tcp://host:2376"), config.DockerEngine{Address: "tcp://host:2376"}},
		"a Windows pipe": {env("docker-host", "npipe:////./pipe/docker_engine"), config.DockerEngine{Address: "npipe:////./pipe/docker_engine"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := world{env: tt.env}.load(t)
			if err != nil {
				t.Fatal(err)
			}
			if c.Pulling.Docker != tt.want {
				t.Errorf("it is %+v, want %+v", c.Pulling.Docker, tt.want)
			}
		})
	}
}
