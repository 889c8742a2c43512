"""The Restricted level of the Pod Security Standards, as a list of what a pod does wrong.

Source: Kubernetes documentation, "Pod Security Standards" (Baseline and Restricted), for Linux pods.
"""

VOLUME_TYPES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def problems(pod: dict) -> list[str]:
    found = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    for volume in pod.get("volumes", []):
        foreign = set(volume) - {"name"} - VOLUME_TYPES
        found += [f"volume {volume['name']}: {kind} is not allowed" for kind in sorted(foreign)]
    context = pod.get("securityContext", {})
    found += [f"sysctl {s['name']} is not allowed" for s in context.get("sysctls", []) if s["name"] not in SYSCTLS]
    found += _shared("pod", context)
    for container in containers(pod):
        found += _container(container, context)
    return found


def containers(pod: dict) -> list[dict]:
    return [*pod.get("initContainers", []), *pod.get("containers", []), *pod.get("ephemeralContainers", [])]


def _shared(name: str, context: dict) -> list[str]:
    found = []
    if context.get("runAsUser") == 0:
        found.append(f"{name}: runAsUser is 0")
    if context.get("runAsNonRoot") is False:
        found.append(f"{name}: runAsNonRoot is false")
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        found.append(f"{name}: seLinuxOptions are not allowed")
    if context.get("seccompProfile", {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
        found.append(f"{name}: seccompProfile is {context['seccompProfile']['type']}")
    if context.get("appArmorProfile", {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
        found.append(f"{name}: appArmorProfile is {context['appArmorProfile']['type']}")
    if context.get("windowsOptions", {}).get("hostProcess"):
        found.append(f"{name}: hostProcess is set")
    return found


def _container(container: dict, pod_context: dict) -> list[str]:
    name, context = container["name"], container.get("securityContext", {})
    found = _shared(name, context)
    if context.get("privileged"):
        found.append(f"{name}: privileged")
    if context.get("allowPrivilegeEscalation") is not False:
        found.append(f"{name}: allowPrivilegeEscalation is not false")
    if context.get("procMount") not in (None, "Default"):
        found.append(f"{name}: procMount is {context['procMount']}")
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        found.append(f"{name}: capabilities do not drop ALL")
    found += [f"{name}: adds capability {c}" for c in capabilities.get("add", []) if c != "NET_BIND_SERVICE"]
    if not context.get("runAsNonRoot", pod_context.get("runAsNonRoot")):
        found.append(f"{name}: runAsNonRoot is not true")
    if not context.get("seccompProfile", pod_context.get("seccompProfile")):
        found.append(f"{name}: no seccompProfile")
    found += [f"{name}: hostPort {p['hostPort']}" for p in container.get("ports", []) if p.get("hostPort")]
    return found
