"""Labels that orchestrators put on pods: what a pod does, and which pods are one instance; names of pods."""

import re

_POD_ROLES = {"prefill": "prefill", "decode": "decode", "encode": "encode"}
_LLM_D_ROLES = {
    **_POD_ROLES, "prefill-decode": "mixed", "both": "mixed", "encode-prefill": "mixed",
    "encode-decode": "mixed", "encode-prefill-decode": "mixed",
}  # fmt: skip

POD_LABEL_METRIC = "kube_pod_labels"
"""Labels of each pod, as kube-state-metrics exports them where it is told to."""

IMAGE_METRIC = "kube_pod_container_info"
"""Which image each container runs: kube-state-metrics' metric that distinguishes a restart from a release."""

POD_ROLES = {
    "llm_d_ai_role": _LLM_D_ROLES,
    "nvidia_com_dynamo_sub_component_type": _POD_ROLES,
    "modelserving_volcano_sh_role": _POD_ROLES,
    "rolebasedgroup_workloads_x_k8s_io_role": _POD_ROLES,
    "role_name": _POD_ROLES,
}
"""Pod label → its values' roles: llm-d, the Dynamo operator, Kthena, RoleBasedGroup, AIBrix (their
documentations). Names are as Prometheus writes them; kube_pod_labels puts label_ before."""

GROUPS = (
    ("leaderworkerset_sigs_k8s_io_name", "leaderworkerset_sigs_k8s_io_group_index"),
    (
        "modelserving_volcano_sh_group_name",
        "modelserving_volcano_sh_role",
        "modelserving_volcano_sh_role_id",
    ),
    ("rolebasedgroup_workloads_x_k8s_io_role_instance_name",),
)
"""Pod labels that together name a replica group, every pod of which is a part of one instance:
LeaderWorkerSet, Kthena's role instances, RoleBasedGroup instances (their documentations)."""

GRAPHS = (
    "nvidia_com_dynamo_graph_deployment_name",
    "modelserving_volcano_sh_name",
    "rolebasedgroup_workloads_x_k8s_io_name",
    "leaderworkerset_sigs_k8s_io_name",
)
"""Pod labels that name what a pod was deployed with, mostly a whole service: the Dynamo operator, Kthena,
RoleBasedGroup, LeaderWorkerSet (their documentations)."""

DYNAMO_NAMESPACES = ("dynamo_namespace", "nvidia_com_dynamo_namespace")
"""Labels of the namespace that Dynamo's own discovery uses, not the Kubernetes one: on its series, and on its
pods (documentation of the Dynamo operator)."""

WORKLOADS = (
    ("deployment", ""), ("statefulset", ""), ("created_by_name", "created_by_kind"),
    ("owner_name", "owner_kind"),
)  # fmt: skip
"""Labels of kube-state-metrics that name what runs a pod, and the label of its kind where that may differ."""

POD_LABEL_PREFIX = "label_"
"""What kube_pod_labels puts before a pod's label; a labelmap rule puts nothing."""

_SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
"""What Kubernetes makes random parts of names of (apimachinery's rand.SafeEncodeString)."""

OF_DEPLOYMENT = re.compile(rf"(?P<set>(?P<deployment>.+)-{_SAFE}{{6,10}})-{_SAFE}{{5}}")
"""Name of a pod that a Deployment runs: Deployment, hash of its template, random part."""
OF_REPLICA_SET = re.compile(rf"(.+)-{_SAFE}{{6,10}}")
GENERATED = re.compile(rf"(.+)-{_SAFE}{{5}}")
"""A name whose end Kubernetes made up."""
