package main

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
)

// validate gives an object the defaults, and says what the API server would not take of it.
func validate(object runtime.Object) error {
	legacyscheme.Scheme.Default(object)
	internal, err := legacyscheme.Scheme.UnsafeConvertToVersion(object.DeepCopyObject(), runtime.InternalGroupVersioner)
	if err != nil {
		return err
	}
	switch o := internal.(type) {
	case *core.Namespace:
		return corevalidation.ValidateNamespace(o).ToAggregate()
	case *core.ServiceAccount:
		return corevalidation.ValidateServiceAccount(o).ToAggregate()
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(o).ToAggregate()
	case *core.Secret:
		return corevalidation.ValidateSecret(o).ToAggregate()
	case *core.Service:
		if o.Spec.ClusterIP != "" { // the server does so when it stores one
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
		return corevalidation.ValidateServiceCreate(o).ToAggregate()
	case *policy.PodDisruptionBudget:
		var opts policyvalidation.PodDisruptionBudgetValidationOptions
		return policyvalidation.ValidatePodDisruptionBudget(o, opts).ToAggregate()
	case *networking.NetworkPolicy:
		var opts networkingvalidation.NetworkPolicyValidationOptions
		return networkingvalidation.ValidateNetworkPolicy(o, opts).ToAggregate()
	case *apps.StatefulSet:
		return validateSet(o).ToAggregate()
	default:
		return fmt.Errorf("%T is not looked at: teach tools/kubernetes to", object)
	}
}

func validateSet(set *apps.StatefulSet) field.ErrorList {
	opts := pod.GetValidationOptionsFromPodTemplate(&set.Spec.Template, nil)
	return appsvalidation.ValidateStatefulSet(set, appsvalidation.StatefulSetValidationOptions{}, opts)
}
