package server

import (
	"io"

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
	if err := stream.Send(&snapshotdv1.DownloadResponse{Header: header}); err != nil {
		return gone(err)
	}
	buf := make([]byte, downloadChunk)
	for {
		n, err := d.Read(buf)
		if n > 0 {
			// Send has encoded the bytes when it returns, and waits while the caller does not take them.
			if err := stream.Send(&snapshotdv1.DownloadResponse{Data: buf[:n]}); err != nil {
				return gone(err)
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
