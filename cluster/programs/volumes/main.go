// volumes gives each PersistentVolumeClaim of the class "local" a folder of this machine, and removes the folder
// when its volume is released. It knows one node and no sizes.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	class       = "local"
	provisioner = "emoji.local/folder"
)

var (
	kubeconfig = flag.String("kubeconfig", "", "the cluster")
	node       = flag.String("node", "", "this machine's name in it")
	folder     = flag.String("folder", "", "where the volumes' folders go")
)

func provision(ctx context.Context, c kubernetes.Interface, claim *core.PersistentVolumeClaim) error {
	name := "claim-" + string(claim.UID)
	path := filepath.Join(*folder, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil { // whatever the umask: containers have users of their own
		return err
	}
	_, err := c.CoreV1().PersistentVolumes().Create(ctx, &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name: name,
			// Kubernetes' own controller leaves a volume with this mark to the one who made it.
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner},
		},
		Spec: core.PersistentVolumeSpec{
			StorageClassName:              class,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      claim.Spec.Resources.Requests,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			// "local" rather than "hostPath": the kubelet applies a pod's fsGroup to it.
			PersistentVolumeSource: core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{
				NodeSelectorTerms: []core.NodeSelectorTerm{{MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{*node},
				}}}},
			}},
		},
	}, meta.CreateOptions{})
	return err
}

func round(ctx context.Context, c kubernetes.Interface) error {
	volumes, err := c.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	made := map[string]bool{}
	for _, volume := range volumes.Items {
		if volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisioner {
			continue
		}
		made[volume.Name] = true
		if volume.Status.Phase != core.VolumeReleased {
			continue
		}
		if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
			return err
		}
		if err := c.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{}); err != nil {
			return err
		}
		log.Println("removed", volume.Name)
	}
	claims, err := c.CoreV1().PersistentVolumeClaims("").List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for _, claim := range claims.Items {
		wanted := claim.Status.Phase == core.ClaimPending && claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil &&
			claim.Spec.StorageClassName != nil && *claim.Spec.StorageClassName == class
		if !wanted || made["claim-"+string(claim.UID)] {
			continue
		}
		if err := provision(ctx, c, &claim); err != nil {
			return err
		}
		log.Println("made a volume for", claim.Namespace+"/"+claim.Name)
	}
	return nil
}

func main() {
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	for ; ; time.Sleep(time.Second) {
		if err := round(context.Background(), client); err != nil {
			log.Println(err) // say, the API server is not there yet: the next round tries again
		}
	}
}
