package s3

import (
	"context"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/snapshotd/snapshotd/internal/span"
)

// tracing makes a span of each operation of the SDK, with all attempts. The server is not told of the trace.
type tracing struct{ bucket string }

// add adds the span to the stack of an operation, where the operation has its name already.
func (t tracing) add(stack *middleware.Stack) error {
	return stack.Initialize.Add(t, middleware.After)
}

// ID implements [middleware.InitializeMiddleware].
func (t tracing) ID() string { return "snapshotd:Tracing" }

// HandleInitialize implements [middleware.InitializeMiddleware].
func (t tracing) HandleInitialize(
	ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
) (out middleware.InitializeOutput, metadata middleware.Metadata, err error) {
	operation := awsmiddleware.GetOperationName(ctx)
	ctx, call := span.Call(ctx, "S3."+operation,
		semconv.RPCSystemNameKey.String("aws-api"), semconv.RPCMethod("S3/"+operation),
		semconv.CloudRegion(awsmiddleware.GetRegion(ctx)), semconv.AWSS3Bucket(t.bucket))
	defer call.End(nil)
	call.SetAttributes(objectOf(in.Parameters)...)
	out, metadata, err = next.HandleInitialize(ctx, in)
	if resp, ok := awsmiddleware.GetRawResponse(metadata).(*smithyhttp.Response); ok && resp.Response != nil {
		call.SetAttributes(semconv.HTTPResponseStatusCode(resp.StatusCode))
	}
	if id, ok := awsmiddleware.GetRequestIDMetadata(metadata); ok {
		call.SetAttributes(semconv.AWSRequestID(id))
	}
	if err != nil && !expected(in.Parameters, err) {
		call.SetAttributes(errorType(err))
		call.SetStatus(codes.Error, err.Error())
	}
	return out, metadata, err
}

// expected reports whether an error is an answer to the question that was asked: the object that was looked for is not
// there, or the one that must not be replaced is.
func expected(params any, err error) bool {
	code, status := apiError(err)
	switch in := params.(type) {
	case *s3.HeadObjectInput:
		return status == http.StatusNotFound // without a body, and so without a code
	case *s3.GetObjectInput:
		return status == http.StatusNotFound && (code == "NoSuchKey" || isVague(code)) // the bucket is asked for then
	case *s3.PutObjectInput:
		return status == http.StatusPreconditionFailed && in.IfNoneMatch != nil
	case *s3.CompleteMultipartUploadInput:
		return status == http.StatusPreconditionFailed && in.IfNoneMatch != nil
	}
	return false
}

// errorType is the code or the status that the server answered; without an answer, the class of the error as the other
// spans have it.
func errorType(err error) attribute.KeyValue {
	switch code, status := apiError(err); {
	case code != "":
		return semconv.ErrorTypeKey.String(code)
	case status != 0:
		return semconv.ErrorTypeKey.String(strconv.Itoa(status))
	}
	return span.ErrorType(err)
}

// objectOf names the object, the upload and the part that an operation is about.
func objectOf(params any) (attrs []attribute.KeyValue) {
	var key, upload *string
	switch in := params.(type) {
	case *s3.HeadObjectInput:
		key = in.Key
	case *s3.GetObjectInput:
		key = in.Key
	case *s3.PutObjectInput:
		key = in.Key
	case *s3.DeleteObjectInput:
		key = in.Key
	case *s3.CreateMultipartUploadInput:
		key = in.Key
	case *s3.UploadPartInput:
		key, upload = in.Key, in.UploadId
		attrs = append(attrs, semconv.AWSS3PartNumber(int(aws.ToInt32(in.PartNumber))))
	case *s3.CompleteMultipartUploadInput:
		key, upload = in.Key, in.UploadId
	case *s3.AbortMultipartUploadInput:
		key, upload = in.Key, in.UploadId
	case *s3.ListPartsInput:
		key, upload = in.Key, in.UploadId
	}
	if key != nil {
		attrs = append(attrs, semconv.AWSS3Key(*key))
	}
	if upload != nil {
		attrs = append(attrs, semconv.AWSS3UploadID(*upload))
	}
	return attrs
}
