package cloudtest

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// motoRuns is where moto says that it listens.
var motoRuns = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// startMoto starts moto, an AWS of somebody else's making, and returns its address.
func startMoto(t *testing.T, env ...string) string {
	t.Helper()
	unavailable := func(why string) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s, and CI must prove this (PyPI: moto[server])", why)
		}
		t.Skipf("%s (PyPI: moto[server])", why)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		unavailable("python3 is not installed")
	}
	if err := exec.Command(python, "-c", "import moto.server, flask").Run(); err != nil {
		unavailable("moto is not installed")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, python, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "PYTHONUNBUFFERED=1"}, env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if m := motoRuns.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		close(address)
	})
	t.Cleanup(func() {
		cancel()
		reader.Wait()
		_ = cmd.Wait()
	})
	select {
	case a, ok := <-address:
		if !ok {
			t.Fatal("moto ended before it listened")
		}
		return a
	case <-time.After(30 * time.Second):
		t.Fatal("moto does not listen")
	}
	return ""
}

// TestMotoAgrees holds our AWS against somebody else's: what both answer to the same calls, an SDK must read alike.
func TestMotoAgrees(t *testing.T) {
	t.Parallel()
	moto := startMoto(t)
	w := newWorld(t)
	a := frankfurt(w)
	id, secretKey, _ := a.key(false)
	ours := w.awsConfig("eu-central-1", id, secretKey, "")
	theirs := awssdk.Config{Region: "eu-central-1", BaseEndpoint: &moto, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "moto-takes-anything", "")}
	name := []string{image}
	describe := func(c *ecr.Client) (string, error) {
		out, err := c.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{RepositoryNames: name})
		if err != nil {
			return "", err
		}
		r := out.Repositories[0]
		return awssdk.ToString(r.RepositoryName) + " " + awssdk.ToString(r.RegistryId) + " " + awssdk.ToString(r.RepositoryArn) + " " +
			awssdk.ToString(r.RepositoryUri) + " " + string(r.ImageTagMutability), nil
	}
	create := func(c *ecr.Client) (string, error) {
		out, err := c.CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: &name[0]})
		if err != nil {
			return "", err
		}
		return awssdk.ToString(out.Repository.RepositoryUri), nil
	}
	token := func(c *ecr.Client) (string, error) {
		out, err := c.GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
		if err != nil {
			return "", err
		}
		d := out.AuthorizationData[0]
		if len(out.AuthorizationData) != 1 || d.AuthorizationToken == nil || d.ExpiresAt == nil {
			return "", errors.New("the answer lacks something")
		}
		return awssdk.ToString(d.ProxyEndpoint), nil
	}
	for _, call := range []struct {
		name string
		do   func(*ecr.Client) (string, error)
	}{{"describe what is not there", describe}, {"create", create}, {"create again", create}, {"describe", describe}, {"token", token}} {
		one, oneErr := call.do(ecr.NewFromConfig(ours))
		two, twoErr := call.do(ecr.NewFromConfig(theirs))
		if one != two || said(oneErr) != said(twoErr) {
			t.Errorf("%s: ours answers %q, %q; moto answers %q, %q", call.name, one, said(oneErr), two, said(twoErr))
		}
	}
	who, err := sts.NewFromConfig(theirs).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || awssdk.ToString(who.Account) != account {
		t.Errorf("moto's account is %v, %v; ours is %s", who, err, account)
	}
}

// said is an error's code and message, as the SDK reads them.
func said(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestMotoPublishes has the program create the repository and get its password at moto, and push to our registry.
func TestMotoPublishes(t *testing.T) {
	t.Parallel()
	moto := startMoto(t)
	w := newWorld(t)
	a := frankfurt(w)
	s := ecrScene(w, a, "AWS credentials of")
	s.missing()
	// Moto's password is always the same, and by its own account it ended in 2015.
	const password = account + "-auth-token"
	w.secret("moto's password", password, a.registry)
	a.tokens[password] = time.Now().Add(time.Hour)
	s.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", w.secret("AWS secret access key", w.random()))
	s.env("AWS_ENDPOINT_URL_ECR", moto).env("AWS_ENDPOINT_URL_STS", moto)
	s.c.input("create-repository", "true")
	if o := s.c.run("plan"); o.exit != 0 || !strings.Contains(o.log(), "will be created") {
		t.Errorf("the plan does not say that the repository will be created:\n%s", o)
	}
	client := ecr.NewFromConfig(awssdk.Config{Region: "eu-central-1", BaseEndpoint: &moto,
		Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "moto-takes-anything", "")})
	there := func() bool {
		_, err := client.DescribeRepositories(context.Background(), &ecr.DescribeRepositoriesInput{RepositoryNames: []string{image}})
		return err == nil
	}
	if there() {
		t.Error("a plan created the repository")
	}
	// The repository is made at moto, of which our registry knows only what it asks there.
	a.front.add(knob{times: -1, first: true, do: func(http.ResponseWriter, *http.Request) bool {
		if there() {
			a.front.set(func(f *front) { f.repositories[image] = true })
		}
		return false
	}})
	s.succeed(t, s.c.run())
	if !there() {
		t.Error("the repository was not created at moto")
	}
}
