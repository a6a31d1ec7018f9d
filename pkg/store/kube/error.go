package kube

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// translate gives an error of the API machinery its kind. What nobody answered, or nobody classified, is
// fault.Unavailable: the write may have happened.
func translate(ctx context.Context, resource string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil {
		if !errors.Is(err, ended) {
			err = errors.Join(ended, err)
		}
		return fault.As(fault.Unavailable, err)
	}
	// Not every error that has a status comes from the record's own handler: a path that the API server does not
	// serve is answered with a bare 404, too.
	if apierrors.IsNotFound(err) && apierrors.IsUnexpectedServerError(err) || apierrors.IsMethodNotSupported(err) {
		return fault.New(fault.Unavailable, "the API server does not serve %s.%s now: is its CRD installed, and not being deleted? (%w)",
			resource, v1alpha1.Group, err)
	}
	switch {
	case apierrors.IsNotFound(err):
		return fault.As(fault.NotFound, err)
	case apierrors.IsAlreadyExists(err):
		return fault.As(fault.Exists, err)
	case apierrors.IsConflict(err):
		return fault.As(fault.Conflict, err)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return fault.As(fault.Invalid, err)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fault.New(fault.Unavailable, "the API server refuses it; give the driver's account the rights that its manifests name: %w", err)
	}
	return fault.As(fault.Unavailable, err)
}
