package process

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// program is a decider whose one flag of its own is the policy.
var program = Program{
	Name: "decider",
	Flags: func(flags *flag.FlagSet) Configure {
		name := flags.String("policy", "default", "")
		return func(context.Context) (service.Config, []any, error) {
			p, err := policy.Named(*name)
			if err != nil {
				return service.Config{}, nil, UsageError{err}
			}
			return service.Config{Policy: p}, nil, nil
		}
	},
}

// command runs the decider to its end.
func command(stdin string, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = program.Run(context.Background(), args, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for _, c := range []struct {
		args   string
		status int
		says   string
	}{
		{"--nonsense", 2, "decider: flag provided but not defined: -nonsense; see decider --help"},
		{"extra", 2, `decider: unknown argument "extra"; see decider --help`},
		{"--policy best", 2, `decider: unknown policy "best": it is one of default, first, random`},
		{"--listen 0.0.0.0:0", 2, "decider: --listen 0.0.0.0:0 can be reached by others: give --tls-cert-file and --tls-key-file, or --insecure to serve plaintext there"},
		{"--tls-cert-file x", 2, "decider: --tls-cert-file and --tls-key-file go together"},
		{"--tls-client-ca-file x", 2, "decider: --tls-client-ca-file needs --tls-cert-file and --tls-key-file"},
		{"--tls-cert-file " + missing + " --tls-key-file " + missing, 1, "decider: --tls-cert-file: stat " + missing + ": no such file or directory"},
		{"--max-message-bytes 0 --max-pods -1", 2, "decider: --max-pods -1 must not be negative; --max-message-bytes 0 must be positive"},
		{"--logging-format xml", 2, `decider: --logging-format "xml" is neither text nor json`},
		{"--listen nowhere", 2, "decider: --listen nowhere can be reached by others: give --tls-cert-file and --tls-key-file, or --insecure to serve plaintext there"},
		{"--listen unix://" + missing + "/x", 1, "decider: --listen unix://" + missing + "/x: listen unix " + missing + "/x: bind: no such file or directory"},
		{"decide --nonsense", 2, "decider: flag provided but not defined: -nonsense; see decider decide --help"},
		{"decide request.json", 2, `decider: unknown argument "request.json": the request is read from standard input`},
		{"decide -o yaml", 2, `decider: -o "yaml" is not json, binary or table`},
		{"decide -i yaml", 2, `decider: -i "yaml" is neither json nor binary`},
	} {
		status, stdout, stderr := command("{}", strings.Fields(c.args)...)
		if status != c.status || stdout != "" || stderr != c.says+"\n" {
			t.Errorf("decider %s: status %d, stdout %q, stderr %q, want %d %q", c.args, status, stdout, stderr, c.status, c.says)
		}
	}
}

func TestPortInUse(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	status, _, stderr := command("", "--listen", lis.Addr().String())
	if want := "decider: --listen " + lis.Addr().String() + ": listen tcp " + lis.Addr().String() + ": bind: address already in use\n"; status != 1 || stderr != want {
		t.Errorf("status %d, %q, want %q", status, stderr, want)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for args, want := range map[string]string{
		"--help": "-tls-client-ca-file", "--version": "\n", "decide --help": "-explain", "decide --version": "\n",
	} {
		status, stdout, stderr := command("", strings.Fields(args)...)
		if status != 0 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("decider %s: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

// Stories of `decider decide`: the input is a cluster, a line of dashes, and pods,
// turned into JSON; `raw` passes the input as it is.
func TestDecide(t *testing.T) {
	datadriven.RunTest(t, "testdata/decide.txt", func(t *testing.T, d *datadriven.TestData) string {
		input := d.Input
		args := []string{"decide"}
		for _, arg := range d.CmdArgs {
			args = append(args, arg.Key)
			args = append(args, arg.Vals...)
		}
		if d.Cmd == "decide" {
			encoded, err := protojson.Marshal(parseRequest(t, d.Input))
			if err != nil {
				t.Fatal(err)
			}
			input = string(encoded)
		}
		status, stdout, stderr := command(input, args...)
		if status != 0 {
			// protojson varies a space from build to build.
			return strings.ReplaceAll(stderr, "\u00a0", " ")
		}
		return stdout
	})
}

func parseRequest(t *testing.T, text string) *berthv1.DecideRequest {
	t.Helper()
	cluster, pods, _ := strings.Cut(text, "--\n")
	snapshot, err := scenario.ParseCluster(cluster)
	if err != nil {
		t.Fatal(err)
	}
	records, err := scenario.ParsePods(pods)
	if err != nil {
		t.Fatal(err)
	}
	return &berthv1.DecideRequest{State: &berthv1.DecideRequest_Snapshot{Snapshot: snapshot}, Pods: records}
}

// The same request is answered alike by the server and by `decider decide`, in
// every format.
func TestDecideIsTheServersAnswer(t *testing.T) {
	r := parseRequest(t, "a cpu=4\nb cpu=2\n--\none cpu=1\ntwo cpu=3\nthree cpu=3\n")
	r.Seed = 3
	d := start(t, "--listen", "127.0.0.1:0")
	want, err := d.client(t, insecure.NewCredentials()).Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	_, binary, _ := command(string(encoded), "decide", "-i", "binary", "-o", "binary")
	_, text, _ := command(string(encoded), "decide", "-i", "binary")
	for format, decode := range map[string]func(*berthv1.DecideResponse) error{
		"binary": func(m *berthv1.DecideResponse) error { return proto.Unmarshal([]byte(binary), m) },
		"json":   func(m *berthv1.DecideResponse) error { return protojson.Unmarshal([]byte(text), m) },
	} {
		got := &berthv1.DecideResponse{}
		if err := decode(got); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s: %v, the server: %v", format, got, want)
		}
	}
}

// serving is a decider that serves.
type serving struct {
	address, metrics string
	stop             context.CancelFunc
	status           chan int
}

// start serves until the test ends. It reads the addresses from the log.
func start(t *testing.T, args ...string) *serving {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	logs, logWriter := io.Pipe()
	d := &serving{stop: cancel, status: make(chan int, 1)}
	go func() {
		d.status <- program.Run(ctx, append(args, "--logging-format", "json"), strings.NewReader(""), io.Discard, logWriter)
		close(d.status)
		logWriter.Close()
	}()
	t.Cleanup(func() { cancel(); <-d.status })
	lines := bufio.NewScanner(logs)
	for d.address == "" && lines.Scan() {
		var line struct{ Msg, Address string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		switch line.Msg {
		case "Serving metrics":
			d.metrics = line.Address
		case "Serving decisions":
			d.address = line.Address
		}
	}
	if d.address == "" {
		t.Fatal("the decider ended before it served")
	}
	go io.Copy(io.Discard, logs)
	return d
}

func (d *serving) client(t *testing.T, credentials credentials.TransportCredentials) berthv1.DeciderServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(d.address, grpc.WithTransportCredentials(credentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return berthv1.NewDeciderServiceClient(conn)
}

func TestServe(t *testing.T) {
	d := start(t, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--policy", "first")
	described, err := d.client(t, insecure.NewCredentials()).Describe(t.Context(), &berthv1.DescribeRequest{}, grpc.WaitForReady(true))
	if err != nil || described.GetName() != "first" {
		t.Errorf("%v, %v", described, err)
	}
	for path, want := range map[string]string{"/metrics": "berth_decider_decisions_total", "/livez": "ok", "/readyz": "ok"} {
		response, err := http.Get("http://" + d.metrics + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %.100s %v", path, response.StatusCode, body, err)
		}
	}
	d.stop()
	if status := <-d.status; status != 0 {
		t.Errorf("status %d after a drain", status)
	}
}

// A socket that a dead process left behind is no obstacle; one that is served is.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "decider")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()

	d := start(t, "--listen", "unix://"+path)
	if _, err := d.client(t, insecure.NewCredentials()).Describe(t.Context(), &berthv1.DescribeRequest{}); err != nil {
		t.Error(err)
	}
	if status, _, stderr := command("", "--listen", "unix://"+path); status != 1 || !strings.Contains(stderr, "address already in use") {
		t.Errorf("status %d, %q", status, stderr)
	}
}

// authority signs certificates for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem(t *testing.T) []byte {
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue writes a certificate for 127.0.0.1 and its key to dir.
func (a *authority) issue(t *testing.T, dir string) (certFile, keyFile string) {
	a.serial++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(100 + a.serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// Clients need a certificate of the authority, and TLS at all.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	certFile, keyFile := a.issue(t, t.TempDir())
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(caFile, a.pem(t), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, "--listen", "127.0.0.1:0", "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-client-ca-file", caFile)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.pem(t))
	own, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	describe := func(c credentials.TransportCredentials) error {
		_, err := d.client(t, c).Describe(t.Context(), &berthv1.DescribeRequest{})
		return err
	}
	if err := describe(credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}})); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if describe(credentials.NewTLS(&tls.Config{RootCAs: roots})) == nil {
		t.Error("a client without a certificate is served")
	}
	if describe(insecure.NewCredentials()) == nil {
		t.Error("a client without TLS is served")
	}
}

// Certificates are followed; what does not fit together is not used.
func TestTLSFilesAreFollowed(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	certFile, keyFile := a.issue(t, dir)
	files := &tlsFiles{certFile: certFile, keyFile: keyFile}
	if _, err := files.serverConfig(); err != nil {
		t.Fatal(err)
	}
	serial := func(after time.Duration) int64 {
		leaf, err := x509.ParseCertificate(files.current(files.checked.Add(after)).Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	changed := time.Now()
	touch := func() {
		changed = changed.Add(time.Minute)
		if err := os.Chtimes(certFile, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	a.issue(t, dir)
	touch()
	if got := serial(rereadInterval / 2); got != 101 {
		t.Errorf("serial %d is read again at once", got)
	}
	if got := serial(rereadInterval); got != 102 {
		t.Errorf("serial %d, want that of the new certificate", got)
	}
	if err := os.WriteFile(certFile, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	touch()
	if got := serial(rereadInterval); got != 102 {
		t.Errorf("serial %d, want that of before", got)
	}
	a.issue(t, dir)
	touch()
	if got := serial(rereadInterval); got != 103 {
		t.Errorf("serial %d, want that of the mended certificate", got)
	}
}
