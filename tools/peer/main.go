// Command peer saves a snapshot of etcd the way K3s does it with compression on, for comparison: etcd's client library
// writes the database to the disk, Deflate makes a zip of it there, and two threads upload that.
package main

import (
	"archive/zip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"
)

// threads is how many parts are uploaded side by side.
const threads = 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	endpoint := flag.String("endpoint", "http://127.0.0.1:2379", "etcd's `URL`")
	dir := flag.String("dir", ".", "`directory` for the database and the zip")
	s3 := flag.String("s3", "", "`HOST:PORT` of the S3 server; keys are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	region := flag.String("region", "us-east-1", "`region` of the bucket")
	bucket := flag.String("bucket", "", "`bucket` to upload to")
	name := flag.String("name", "peer", "`name` of the snapshot")
	flag.Parse()

	db := filepath.Join(*dir, *name)
	etcd := clientv3.Config{Endpoints: []string{*endpoint}}
	if _, err := snapshot.SaveWithVersion(ctx, zap.NewNop(), etcd, db); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	if err := deflate(db, db+".zip"); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := os.Remove(db); err != nil {
		return err
	}
	client, err := minio.New(*s3, &minio.Options{
		Creds:  credentials.NewStaticV4(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
		Region: *region,
	})
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	opts := minio.PutObjectOptions{ContentType: "application/zip", NumThreads: threads}
	_, err = client.FPutObject(ctx, *bucket, *name+".zip", db+".zip", opts)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return nil
}

// deflate makes a zip with one entry.
func deflate(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z := zip.NewWriter(out)
	entry, err := z.CreateHeader(&zip.FileHeader{Name: filepath.Base(from), Method: zip.Deflate})
	if err != nil {
		return err
	}
	if _, err := io.Copy(entry, in); err != nil {
		return err
	}
	return z.Close()
}
