// SPDX-License-Identifier: Apache-2.0
import Glibc
import Migration
import TopologyFixtures

@testable import Topology

/// What can be wrong with settings: of NICs, of limits, of peers.
extension DoctorCase {
  static let settings: [DoctorCase] = [
    DoctorCase(
      "a physical function is to be moved", "function", .missing,
      evidence: "no physfn: it is a physical function, and offers 8",
      remedy: "vfio-ferry prepare 0000:16:00.0 --vfs N, and give the guest one of these; where 8 are too few"
    ) { $0 = .physical },
    DoctorCase(
      "the firmware of a physical function has no SR-IOV", "function", .missing, evidence: "there is no sriov_totalvfs",
      remedy: "mlxconfig -d 0000:16:00.0 set SRIOV_EN=1 NUM_OF_VFS=N VF_MIGRATION_MODE=2, then mlxfwreset"
    ) {
      $0 = .physical
      $0.host.files["\(DoctorHost.home(0, function: 0))/sriov_totalvfs"] = nil
    },
    DoctorCase(
      "a physical function has no virtual ones in this kernel", "function", .missing, evidence: "has no CONFIG_PCI_IOV",
      remedy: "boot a kernel that has it; then vfio-ferry prepare 0000:16:00.0"
    ) {
      $0 = .physical
      $0.configure("PCI_IOV")
      $0.host.files["\(DoctorHost.home(0, function: 0))/sriov_totalvfs"] = nil
    },
    DoctorCase(
      "the firmware of a physical function offers no virtual ones", "function", .missing,
      evidence: "offers none: 0 in sriov_totalvfs", remedy: "or a power cycle"
    ) {
      $0 = .physical
      $0.host.files["\(DoctorHost.home(0, function: 0))/sriov_totalvfs"] = "0"
    },
    DoctorCase(
      "the firmware of a physical function offers fewer than its file wants", "function", .missing,
      evidence: "and offers 8 virtual ones (sriov_totalvfs), where",
      remedy: "mlxconfig -d 0000:16:00.0 set NUM_OF_VFS=16, then mlxfwreset"
    ) {
      $0 = .physical
      $0.host.files["\(DoctorHost.home(0, function: 0))/sriov_numvfs"] = "0"
      $0.host.files["etc/vfio-ferry/prepare.d/nic.toml"] = "pf = \"0000:16:00.0\"\nvfs = 16"
    },
    DoctorCase(
      "a physical function's firmware is too old for its virtual ones", "firmware", .missing, evidence: "28.39.3004",
      remedy: "mlxfwmanager", of: .physical
    ) { $0.replace("rdma mlx5_0 at=16:00.0 firmware=28.41.1000", "rdma mlx5_0 at=16:00.0 firmware=28.39.3004") },
    DoctorCase(
      "a physical function's link is InfiniBand", "link-layer", .missing, evidence: "0000:16:00.0: infiniband",
      remedy: "mlxconfig -d 0000:16:00.0 set LINK_TYPE_P1=2", of: .physical
    ) {
      $0.replace(
        "rdma mlx5_0 at=16:00.0 firmware=28.41.1000 port1=active,ethernet",
        "rdma mlx5_0 at=16:00.0 firmware=28.41.1000 port1=active,infiniband")
    },
    DoctorCase(
      "firmware is too old", "firmware", .missing, evidence: "28.39.3004, and has to be 28.41.1000",
      remedy: "mlxfwmanager"
    ) { $0.replace("rdma mlx5_0 at=16:00.0 firmware=28.41.1000", "rdma mlx5_0 at=16:00.0 firmware=28.39.3004") },
    DoctorCase("firmware is another family's", "firmware", .unknown, evidence: "22.41.1000", remedy: "vendor") {
      $0.replace("rdma mlx5_0 at=16:00.0 firmware=28.41.1000", "rdma mlx5_0 at=16:00.0 firmware=22.41.1000")
    },
    DoctorCase(
      "nobody says which firmware it has", "firmware", .unknown, evidence: "neither", remedy: "devlink dev info"
    ) {
      $0.replace("rdma mlx5_0 at=16:00.0 firmware=28.41.1000", "rdma mlx5_0 at=16:00.0")
    },
    DoctorCase(
      "the link is InfiniBand", "link-layer", .missing, evidence: "infiniband", remedy: "LINK_TYPE_P1=2"
    ) {
      $0.replace(
        "rdma mlx5_0 at=16:00.0 firmware=28.41.1000 port1=active,ethernet",
        "rdma mlx5_0 at=16:00.0 firmware=28.41.1000 port1=active,infiniband")
    },
    DoctorCase(
      "the switch is in legacy mode", "eswitch", .missing, evidence: "legacy mode",
      remedy: "vfio-ferry prepare 0000:16:00.0 --vfs 1 --eswitch switchdev"
    ) {
      $0.network.mode = .legacy
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "nobody says the switch's mode", "eswitch", .unknown, evidence: "neither devlink nor a representor",
      remedy: "vfio-ferry prepare 0000:16:00.0 --vfs 1 --eswitch switchdev"
    ) {
      $0.network.mode = nil
      $0.host.files = $0.host.files.filter { !$0.key.hasSuffix("phys_switch_id") }
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "it was not made migratable", "migratable", .missing, evidence: "that it is not",
      remedy:
        "bind it again; all VFs of 0000:16:00.0: vfio-ferry prepare 0000:16:00.0 --vfs 1 --migratable"
    ) {
      $0.network.isMigratable = false
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "the driver does not say whether it is migratable", "migratable", .unknown,
      evidence: "the driver of 0000:16:00.0",
      remedy: "this one alone: unbind it, devlink port function set PORT migratable enable"
    ) {
      $0.network.isMigratable = nil
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "what it receives can't be limited", "limiter", .warning, evidence: "kind ingress", remedy: "docs/throttling.md"
    ) {
      $0.network.hooks = HookHolder(kind: "ingress", isShared: false)
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase("nothing limits it", "limiter", .warning, evidence: "CAP_NET_ADMIN", remedy: "as root") {
      $0.network.limits = NetlinkError(errno: .notPermitted, words: "")
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "less may be locked than the guest has", "locked-memory", .missing, evidence: "8 MiB; the guest has 16 GiB",
      remedy: "LimitMEMLOCK"
    ) {
      $0.host.files["proc/self/limits"] = "Max locked memory         8388608              8388608              bytes"
    },
    DoctorCase(
      "the control group is smaller than guest and images", "memory-limit", .missing,
      evidence: "machine.slice/memory.max allows 16 GiB", remedy: "MemoryMax"
    ) { $0.host.files["sys/fs/cgroup/machine.slice/memory.max"] = "\(16 << 30)" },
    DoctorCase(
      "a control group of the first version is too small", "memory-limit", .missing,
      evidence: "fs/cgroup/memory/guest/memory.limit_in_bytes allows 1 GiB", remedy: "MemoryMax"
    ) {
      $0.host.files["proc/self/cgroup"] = "4:cpu,memory:/guest\n0::/"
      $0.host.files["sys/fs/cgroup/memory/guest/memory.limit_in_bytes"] = "\(1 << 30)"
      $0.host.files["sys/fs/cgroup/memory/memory.limit_in_bytes"] = "9223372036854771712"
    },
    DoctorCase(
      "the path of the control group is another namespace's", "memory-limit", .unknown, evidence: "can't be read",
      remedy: "namespace"
    ) { $0.host.files["proc/self/cgroup"] = "0::/../../guest" },
    DoctorCase(
      "huge pages of 1 GiB, and the IOMMU tracks", "huge-pages", .warning, evidence: "32 of 1 GiB",
      remedy: "hugepages-2048kB", of: .accelerator
    ) { $0.host.files["sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"] = "32" },
    DoctorCase(
      "huge pages of 1 GiB are made as they are asked for", "huge-pages", .warning, evidence: "4 of 1 GiB",
      remedy: "hugepages-2048kB", of: .accelerator
    ) { $0.host.files["sys/kernel/mm/hugepages/hugepages-1048576kB/nr_overcommit_hugepages"] = "4" },
    DoctorCase(
      "transparent huge pages are of 512 MiB", "huge-pages", .warning, evidence: "with a bit for 512 MiB",
      remedy: "echo never", of: .accelerator
    ) { $0.host.files["sys/kernel/mm/transparent_hugepage/hpage_pmd_size"] = "\(512 << 20)" },
    DoctorCase(
      "peers give up too early", "retry-budget", .warning, evidence: "time-out 14 and 3 retries surely tolerate 201 ms",
      remedy: "time-out 14 and 7 retries"
    ) { $0.expectations.peers = RetryBudget(scheme: .fixed, timeout: 14, retries: 3) },
    DoctorCase(
      "nobody said how long peers wait", "retry-budget", .unknown, evidence: "200 ms and 50 %",
      remedy: "say --timeout N"
    ) { $0.expectations.peers = nil },
  ]
}
