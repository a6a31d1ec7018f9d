package e2e_test

import "strings"

// object is one of Kubernetes', as JSON.
type object map[string]any

func (o object) kind() string { return strings.ToLower(o["kind"].(string)) }
func (o object) name() string { return o["metadata"].(object)["name"].(string) }

// with sets a field of the object's spec.
func (o object) with(field string, value any) object {
	o["spec"].(object)[field] = value
	return o
}

func named(apiVersion, kind, name string) object {
	return object{"apiVersion": apiVersion, "kind": kind, "metadata": object{"name": name}}
}

// claim is of the default class.
func claim(name, size string) object {
	o := named("v1", "PersistentVolumeClaim", name)
	o["spec"] = claimSpec(size)
	return o
}

func claimSpec(size string) object {
	return object{"accessModes": []string{"ReadWriteOnce"}, "resources": object{"requests": object{"storage": size}}}
}

func snapshot(name, of string) object {
	o := named("snapshot.storage.k8s.io/v1", "VolumeSnapshot", name)
	o["spec"] = object{"volumeSnapshotClassName": "datastore-csi", "source": object{"persistentVolumeClaimName": of}}
	return o
}

// restored is a claim whose data comes from a snapshot.
func restored(name, size, from string) object {
	return claim(name, size).with("dataSource", object{"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": from})
}

// pod runs a script with a claim at /data, and is ready for as long as that runs.
func pod(name, claim, script string) object {
	o := named("v1", "Pod", name)
	o["spec"] = object{
		"terminationGracePeriodSeconds": 1,
		"containers": []any{object{
			"name": "c", "image": "busybox:stable", "imagePullPolicy": "IfNotPresent", "command": []string{"sh", "-c", script},
			"volumeMounts": []any{object{"name": "data", "mountPath": "/data"}},
		}},
		"volumes": []any{object{"name": "data", "persistentVolumeClaim": object{"claimName": claim}}},
	}
	return o
}

// container is the only one of a pod.
func (o object) container() object { return o["spec"].(object)["containers"].([]any)[0].(object) }

// on has a pod run on a node.
func (o object) on(node string) object {
	return o.with("nodeSelector", object{"kubernetes.io/hostname": node})
}

// wait is the script of a pod that does nothing.
const wait = "trap 'exit 0' TERM; while :; do sleep 1; done"
