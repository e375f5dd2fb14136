// Package manifests reads deploy/kubernetes as Kubernetes itself does, with its own
// types and strictly: a field that doesn't exist, or is there twice, is an error. It
// is a module of its own, so that nobody else depends on them.
package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// kinds are what may be in a file.
var kinds = map[metav1.TypeMeta]func() metav1.Object{
	{APIVersion: "apps/v1", Kind: "Deployment"}:                 func() metav1.Object { return new(appsv1.Deployment) },
	{APIVersion: "batch/v1", Kind: "Job"}:                       func() metav1.Object { return new(batchv1.Job) },
	{APIVersion: "v1", Kind: "ConfigMap"}:                       func() metav1.Object { return new(corev1.ConfigMap) },
	{APIVersion: "v1", Kind: "Service"}:                         func() metav1.Object { return new(corev1.Service) },
	{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:      func() metav1.Object { return new(policyv1.PodDisruptionBudget) },
	{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}: func() metav1.Object { return new(networkingv1.NetworkPolicy) },
	{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"}:       func() metav1.Object { return new(networkingv1.Ingress) },
}

// decode reads a file's objects.
func decode(text []byte) (objects []metav1.Object, err error) {
	for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(document, &meta); err != nil {
			return nil, err
		}
		empty, known := kinds[meta]
		if !known {
			return nil, &unknownError{meta}
		}
		object := empty()
		if err := yaml.UnmarshalStrict(document, object); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

type unknownError struct{ metav1.TypeMeta }

func (e *unknownError) Error() string { return "no kind of ours: " + e.String() }

func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var set *appsv1.Deployment
	var service *corev1.Service
	config := map[string]*corev1.ConfigMap{}
	var all []metav1.Object
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // ours
		require.NoError(t, err)
		objects, err := decode(text)
		require.NoError(t, err, file)
		all = append(all, objects...)
	}
	for _, object := range all {
		require.NotEmpty(t, object.GetName())
		switch o := object.(type) {
		case *appsv1.Deployment:
			set = o
		case *corev1.Service:
			service = o
		case *corev1.ConfigMap:
			config[o.Name] = o
		}
	}
	pod := set.Spec.Template
	selects := func(s *metav1.LabelSelector) {
		t.Helper()
		selector, err := metav1.LabelSelectorAsSelector(s)
		require.NoError(t, err)
		require.False(t, selector.Empty())
		require.True(t, selector.Matches(labels.Set(pod.Labels)))
	}
	ports := map[string]bool{}
	for _, port := range pod.Spec.Containers[0].Ports {
		ports[port.Name] = true
	}
	selects(set.Spec.Selector)
	selects(&metav1.LabelSelector{MatchLabels: service.Spec.Selector})
	require.True(t, ports[service.Spec.Ports[0].TargetPort.StrVal])
	for _, object := range all {
		switch o := object.(type) {
		case *policyv1.PodDisruptionBudget:
			selects(o.Spec.Selector)
		case *networkingv1.NetworkPolicy:
			selects(&o.Spec.PodSelector)
			for _, rule := range o.Spec.Ingress {
				require.True(t, ports[rule.Ports[0].Port.StrVal])
			}
		case *networkingv1.Ingress:
			backend := o.Spec.Rules[0].HTTP.Paths[0].Backend.Service
			require.Equal(t, service.Name, backend.Name)
			require.Equal(t, service.Spec.Ports[0].Name, backend.Port.Name)
		}
	}
	require.Contains(t, config, pod.Spec.Volumes[0].ConfigMap.Name)
	require.Equal(t, pod.Spec.Volumes[0].Name, pod.Spec.Containers[0].VolumeMounts[0].Name)
	require.True(t, *pod.Spec.SecurityContext.RunAsNonRoot)
}

// Whatever takes a node away, a rollout or a machine that is drained, others are left.
func TestManifests_severalNodes(t *testing.T) {
	text, err := os.ReadFile("../../deploy/kubernetes/freshet.yaml")
	require.NoError(t, err)
	objects, err := decode(text)
	require.NoError(t, err)
	set := objects[0].(*appsv1.Deployment) //nolint:forcetypeassert // or it fails
	nodes := int(*set.Spec.Replicas)
	require.Equal(t, 3, nodes)
	rollout := set.Spec.Strategy.RollingUpdate
	require.Equal(t, appsv1.RollingUpdateDeploymentStrategyType, set.Spec.Strategy.Type)
	require.Zero(t, rollout.MaxUnavailable.IntValue())
	require.Equal(t, 1, rollout.MaxSurge.IntValue())
	require.NotNil(t, set.Spec.Template.Spec.Containers[0].ReadinessProbe)
	budgets := 0
	for _, object := range objects {
		if budget, ok := object.(*policyv1.PodDisruptionBudget); ok {
			budgets++
			require.Less(t, budget.Spec.MaxUnavailable.IntValue(), nodes)
			require.Positive(t, budget.Spec.MaxUnavailable.IntValue(), "a machine can be drained")
		}
	}
	require.Equal(t, 1, budgets)
}

// What Kubernetes waits has to be longer than what the program takes, and its checks
// have to notice within the half of --drain that is for them.
func TestManifests_drain(t *testing.T) {
	read := func(file string) []metav1.Object {
		text, err := os.ReadFile("../../deploy/kubernetes/" + file) //nolint:gosec // ours
		require.NoError(t, err)
		objects, err := decode(text)
		require.NoError(t, err)
		return objects
	}
	pod := read("freshet.yaml")[0].(*appsv1.Deployment).Spec.Template.Spec //nolint:forcetypeassert // or it fails
	var config struct {
		Drain string `json:"drain"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read("config.yaml")[0].(*corev1.ConfigMap).Data["freshet.yaml"]), &config)) //nolint:forcetypeassert // the same
	drain, err := time.ParseDuration(config.Drain)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second, drain+15*time.Second)
	probe := pod.Containers[0].ReadinessProbe
	require.Less(t, time.Duration(probe.FailureThreshold*(probe.PeriodSeconds+probe.TimeoutSeconds))*time.Second, drain/2)
}

// A field that doesn't exist is seen, and one that is there twice.
func TestManifests_strict(t *testing.T) {
	for name, text := range map[string]string{
		"a typo":   "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: []}\n",
		"twice":    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {}\nspec: {}\n",
		"no kind":  "apiVersion: v1\nkind: Servic\n",
		"no types": "spec: {}\n",
	} {
		_, err := decode([]byte(text))
		require.Error(t, err, name)
	}
}
