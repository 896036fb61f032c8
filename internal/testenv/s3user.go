package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// User is somebody who may do what a policy says, and nothing else.
type User struct {
	s3   *S3
	keys aws.Credentials
}

// User makes a user of a bucket. With versitygw, that is an account and a policy of the bucket that names it; with
// MinIO, a session of the owner's that the policy narrows.
func (s *S3) User(bucket, policy string) *User {
	s.tb.Helper()
	return &User{s3: s, keys: s.newUser(s, bucket, policy)}
}

// Env returns the user's credentials as variables of the environment.
func (u *User) Env() []string {
	env := []string{
		"AWS_ACCESS_KEY_ID=" + u.keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + u.keys.SecretAccessKey,
		"AWS_EC2_METADATA_DISABLED=true",
	}
	if u.keys.SessionToken != "" {
		env = append(env, "AWS_SESSION_TOKEN="+u.keys.SessionToken)
	}
	return env
}

// Client returns a client of the server with the user's credentials.
func (u *User) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + u.s3.addr), Region: s3Region, UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return u.keys, nil }),
	})
}

// account makes an account of versitygw, and a policy of the bucket for it alone.
func (s *S3) account(bucket, policy string) aws.Credentials {
	s.tb.Helper()
	keys := aws.Credentials{AccessKeyID: "USER" + rand.Text()[:16], SecretAccessKey: rand.Text()}
	body, err := xml.Marshal(struct {
		XMLName              xml.Name `xml:"Account"`
		Access, Secret, Role string
	}{Access: keys.AccessKeyID, Secret: keys.SecretAccessKey, Role: "user"})
	if err != nil {
		s.tb.Fatal(err)
	}
	s.signed(http.MethodPatch, "/create-user", "s3", "application/xml", body)
	var doc struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(policy), &doc); err != nil {
		s.tb.Fatal(err)
	}
	for _, statement := range doc.Statement {
		statement["Principal"] = keys.AccessKeyID
	}
	text, err := json.Marshal(doc)
	if err != nil {
		s.tb.Fatal(err)
	}
	_, err = s.Client().PutBucketPolicy(s.tb.Context(), &s3.PutBucketPolicyInput{
		Bucket: aws.String(bucket), Policy: aws.String(string(text)),
	})
	if err != nil {
		s.tb.Fatal(err)
	}
	return keys
}

// session makes a session of MinIO.
func (s *S3) session(_, policy string) aws.Credentials {
	s.tb.Helper()
	form := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "DurationSeconds": {"3600"}, "Policy": {policy},
	}
	answer := s.signed(http.MethodPost, "/", "sts", "application/x-www-form-urlencoded", []byte(form.Encode()))
	var doc struct {
		Keys struct{ AccessKeyId, SecretAccessKey, SessionToken string } `xml:"AssumeRoleResult>Credentials"`
	}
	if err := xml.Unmarshal(answer, &doc); err != nil {
		s.tb.Fatalf("%v: %s", err, answer)
	}
	return aws.Credentials{
		AccessKeyID: doc.Keys.AccessKeyId, SecretAccessKey: doc.Keys.SecretAccessKey, SessionToken: doc.Keys.SessionToken,
	}
}

// signed sends a request that the owner has signed, and returns the answer. It is sent again until the server is ready
// for it.
func (s *S3) signed(method, path, service, kind string, body []byte) []byte {
	s.tb.Helper()
	for end := time.Now().Add(StartTimeout); ; time.Sleep(100 * time.Millisecond) {
		req, err := http.NewRequestWithContext(s.tb.Context(), method, "http://"+s.addr+path, bytes.NewReader(body))
		if err != nil {
			s.tb.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		sum := sha256.Sum256(body)
		hash := hex.EncodeToString(sum[:])
		req.Header.Set("X-Amz-Content-Sha256", hash)
		if err := v4.NewSigner().SignHTTP(s.tb.Context(), s3Keys, req, hash, service, s3Region, time.Now()); err != nil {
			s.tb.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			s.tb.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read
		if err != nil {
			s.tb.Fatal(err)
		}
		if resp.StatusCode < 300 {
			return answer
		}
		if time.Now().After(end) {
			s.tb.Fatalf("%s %s: %s: %s", method, path, resp.Status, answer)
		}
	}
}
