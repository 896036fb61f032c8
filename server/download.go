package server

import (
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// downloadChunk is how many bytes a message of a download has at most.
const downloadChunk = 256 << 10

// Download implements the RPC.
func (s *service) Download(req *snapshotdv1.DownloadRequest, stream grpc.ServerStreamingServer[snapshotdv1.DownloadResponse]) error {
	c, err := s.cluster(req.GetCluster())
	if err != nil {
		return err
	}
	d, err := c.Download(stream.Context(), snapshot.DownloadRequest{
		Name: req.GetName(), Backend: req.GetBackend(), Decoded: req.GetDecoded(), Offset: req.GetOffset(),
	})
	if err != nil {
		return &failure{error: err, cluster: c.Name()}
	}
	defer func() { _ = d.Close() }() // it was only read
	header := &snapshotdv1.DownloadHeader{
		Cluster: c.Name(), Name: d.Name, Backend: d.Backend, Decoded: req.GetDecoded(),
		TotalBytes: d.Size, Sha256: d.SHA256, Sha256Bytes: d.SHA256Bytes, FileName: d.FileName,
	}
	if err := s.sendDownload(stream, d, &snapshotdv1.DownloadResponse{Header: header}); err != nil {
		return &failure{error: err, cluster: c.Name()}
	}
	buf := make([]byte, downloadChunk)
	for {
		n, err := d.Read(buf)
		if n > 0 {
			if err := s.sendDownload(stream, d, &snapshotdv1.DownloadResponse{Data: buf[:n]}); err != nil {
				return &failure{error: err, cluster: c.Name()}
			}
		}
		if err == io.EOF { //nolint:errorlint // wrapped, it is not the end
			return nil
		}
		if err != nil {
			return &failure{error: err, cluster: c.Name()}
		}
	}
}

// sendDownload sends a message, which it has encoded when it returns, and waits while the caller does not take what came
// before. Few downloads are read at a time, so that after a while d is closed meanwhile, for another one to be read: that is
// the error then.
func (s *service) sendDownload(stream grpc.ServerStreamingServer[snapshotdv1.DownloadResponse], d *snapshot.Download, m *snapshotdv1.DownloadResponse) error {
	stalled := time.AfterFunc(s.stall, func() { _ = d.Close() })
	err := stream.Send(m)
	if !stalled.Stop() {
		return &snapshot.Error{
			Reason: snapshot.ReasonSlowConsumer, Message: fmt.Sprintf("download %s: the caller took nothing for %v", d.Name, s.stall),
			Hint: "download the rest, from the offset that it has come to", Err: err,
		}
	}
	if err != nil {
		return gone(err)
	}
	return nil
}
