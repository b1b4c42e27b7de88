package tools

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func TestCompose(t *testing.T) {
	project := loadCompose(t, "../docker-compose.yml")
	for _, name := range []string{"api", "filter", "gateway", "producer", "seed", "kafka", "redis", "postgres"} {
		if _, ok := project.Services[name]; !ok {
			t.Errorf("no service %s", name)
		}
	}
	// Services ask each other by name, and nobody who they are: each must know its own.
	for _, name := range []string{"api", "filter", "gateway"} {
		hosts := project.Services[name].Environment["EVENTSTREAM_HOSTS"]
		if hosts == nil || !slices.Contains(strings.Split(*hosts, ","), name) {
			t.Errorf("service %s: EVENTSTREAM_HOSTS does not have its name", name)
		}
	}
	for name, s := range project.Services {
		for _, err := range composeFaults(project, s) {
			t.Errorf("service %s: %v", name, err)
		}
	}
}

// loadCompose reads a file as `docker compose config` does: anchors, variables,
// schema, and whether all services and volumes that are named exist.
func loadCompose(t *testing.T, file string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// composeFaults lists what the format allows and we don't.
func composeFaults(project *types.Project, s types.ServiceConfig) (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.Build == nil && !strings.Contains(s.Image, "@sha256:") {
		fault("image %q is not pinned by digest", s.Image)
	}
	for _, p := range s.Ports {
		if p.HostIP != "127.0.0.1" {
			fault("port %d is published on %q, not on 127.0.0.1", p.Target, p.HostIP)
		}
	}
	for name, d := range s.DependsOn {
		if d.Condition == types.ServiceConditionHealthy && project.Services[name].HealthCheck == nil {
			fault("waits for the health of %s, which has no health check", name)
		}
	}
	return faults
}
