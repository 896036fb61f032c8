package server

import (
	"cmp"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/snapshot"
)

type downloadStream = grpc.ServerStreamingServer[snapshotdv1.DownloadResponse]

// downloadChunk is the size of a message of a download, at most.
const downloadChunk = 256 << 10

// Download implements the RPC.
func (s *service) Download(req *snapshotdv1.DownloadRequest, stream downloadStream) error {
	c, err := s.cluster(stream.Context(), req.GetCluster())
	if err != nil {
		return err
	}
	placed := s.downloads.Wait(c.Name())
	defer placed()
	d, err := c.Download(stream.Context(), cluster.DownloadRequest{
		Name: req.GetName(), Backend: req.GetBackend(), Decoded: req.GetDecoded(), Offset: req.GetOffset(),
	})
	if err != nil {
		return &failure{error: err, cluster: c.Name()}
	}
	defer func() { _ = d.Close() }() // a file that was only read
	placed()
	pace := s.downloads.Begin(c.Name(), d.Name, func() { _ = d.Close() })
	defer pace.End()
	if err := s.sendAll(stream, c.Name(), req.GetDecoded(), d, pace); err != nil {
		return &failure{error: cmp.Or(pace.Err(), err), cluster: c.Name()}
	}
	return nil
}

// sendAll sends a download.
func (s *service) sendAll(
	stream downloadStream, of string, decoded bool, d *downloading.Download, pace *limits.Pace,
) error {
	header := &snapshotdv1.DownloadHeader{
		Cluster: of, Name: d.Name, Backend: d.Backend, Decoded: decoded,
		TotalBytes: d.Size, Sha256: d.SHA256, Sha256Bytes: d.SHA256Bytes, FileName: d.FileName,
	}
	if err := s.sendDownload(stream, d, &snapshotdv1.DownloadResponse{Header: header}); err != nil {
		return err
	}
	buf := make([]byte, downloadChunk)
	for {
		n, err := d.Read(buf)
		if n > 0 {
			m := &snapshotdv1.DownloadResponse{Data: buf[:n]}
			if err := pace.Send(n, func() error { return s.sendDownload(stream, d, m) }); err != nil {
				return err
			}
		}
		if err == io.EOF { //nolint:errorlint // wrapped, it is not the end
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sendDownload sends a message, which is encoded when it returns, and waits while the caller does not take the earlier
// ones. Few downloads are read at a time: after the stall timeout, d is closed so that another download can be read,
// and the error says so.
func (s *service) sendDownload(stream downloadStream, d *downloading.Download, m *snapshotdv1.DownloadResponse) error {
	stalled := time.AfterFunc(s.stall, func() { _ = d.Close() })
	err := stream.Send(m)
	if !stalled.Stop() {
		return snapshot.ReasonSlowConsumer.New("download %s: the caller took nothing for %v", d.Name, s.stall).Because(err).
			Advise("download the rest, from the offset that was reached")
	}
	if err != nil {
		return gone(err)
	}
	return nil
}
