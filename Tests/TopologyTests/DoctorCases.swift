// SPDX-License-Identifier: Apache-2.0
import Glibc
import Migration
import Testing
import TopologyFixtures

@testable import Topology

/// A host with one thing wrong, and what is to be found of it.
struct DoctorCase: Sendable, CustomTestStringConvertible {
  /// What is looked at.
  struct Subject: Sendable {
    var host: DoctorHost
    var network = DoctorNetwork()
    var expectations = HostFacts.Expectations()
    var devices = DoctorHost.functions
    /// What sysfs of no host can be made to say.
    var changeTree: @Sendable (inout PCITree) -> Void = { _ in }
  }

  let testDescription: String
  let condition: String
  let state: Condition.State
  /// What the evidence has to name, and the remedy.
  let evidence: String
  let remedy: String
  let breakIt: @Sendable (inout Subject) -> Void
  /// The good host that it is done to.
  let base: Subject

  init(
    _ what: String, _ condition: String, _ state: Condition.State, evidence: String, remedy: String,
    of base: Subject = .connectX, _ breakIt: @escaping @Sendable (inout Subject) -> Void
  ) {
    testDescription = what
    (self.condition, self.state, self.evidence, self.remedy) = (condition, state, evidence, remedy)
    (self.breakIt, self.base) = (breakIt, base)
  }
}

extension DoctorCase.Subject {
  /// Two functions of ConnectX-7, a guest of 16 GiB, and peers that wait for long.
  static var connectX: Self {
    var subject = Self(host: .connectX)
    subject.expectations.guestMemory = 16 << 30
    subject.expectations.imageSize = 1 << 30
    subject.expectations.downtime = 200_000_000
    subject.expectations.peers = RetryBudget(scheme: .fixed, timeout: 18, retries: 7)
    return subject
  }

  /// The same functions as of another vendor, with another driver.
  static func other(_ identity: String, driver: String, devices: Int = 1) -> Self {
    var subject = connectX
    subject.replace(
      "id=15b3:101e class=0x020000 driver=mlx5_vfio_pci", "id=\(identity) class=0x0b4000 driver=\(driver)")
    for nic in 0..<2 {
      subject.host.files["\(DoctorHost.home(nic, function: 2))/modalias"] = "pci:v00008086d00004941sv"
    }
    subject.devices = Array(DoctorHost.functions.prefix(devices))
    return subject
  }
  /// One that relies on the IOMMU for its dirty pages.
  static var accelerator: Self { other("8086:4941", driver: "qat_vfio_pci") }

  mutating func replace(_ old: String, _ new: String) {
    precondition(host.tree.contains(old), "the tree has no \(old)")
    host.tree = host.tree.split(separator: old, omittingEmptySubsequences: false).joined(separator: new)
  }

  mutating func configure(_ option: String, _ value: String? = nil) {
    let path = "boot/config-\(DoctorHost.release)"
    let lines = host.files[path]!.split(separator: "\n").filter { !$0.hasPrefix("CONFIG_\(option)=") }.map(String.init)
    host.files[path] = (lines + (value.map { ["CONFIG_\(option)=\($0)"] } ?? [])).joined(separator: "\n")
  }

  /// As if the modules of VFIO had never been loaded.
  mutating func unloadVFIO() {
    replace(" driver=mlx5_vfio_pci", "")
    for nic in 0..<2 { replace(" vfio=\(nic)", "") }
    host.files["sys/module/vfio/refcnt"] = nil
  }

  mutating func boot(_ release: String) {
    for (path, text) in host.files where path.contains(DoctorHost.release) {
      host.files[
        path.split(separator: DoctorHost.release, omittingEmptySubsequences: false).joined(separator: release)] = text
    }
    host.files["proc/sys/kernel/osrelease"] = release
  }
}

extension DoctorCase {
  private static let first = DoctorHost.home(0, function: 2)
  private static let firstPhysical = DoctorHost.home(0, function: 0)

  static let kernel: [DoctorCase] = [
    DoctorCase(
      "the kernel's configuration is nowhere", "kernel-configuration", .unknown, evidence: "boot/config-7.0.3",
      remedy: "modprobe configs"
    ) {
      $0.host.files["boot/config-\(DoctorHost.release)"] = nil
      // Of two, whether one reaches the other depends on it.
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "the kernel has no VFIO", "vfio", .missing, evidence: "has no CONFIG_VFIO and CONFIG_VFIO_PCI",
      remedy: "boot a kernel with CONFIG_VFIO"
    ) {
      $0.unloadVFIO()
      $0.configure("VFIO")
      $0.configure("VFIO_PCI")
    },
    DoctorCase("VFIO is not loaded", "vfio", .missing, evidence: "vfio_pci is installed", remedy: "modprobe vfio_pci") {
      $0.unloadVFIO()
    },
    DoctorCase(
      "VFIO's module is not installed", "vfio", .missing, evidence: "has no module vfio_pci",
      remedy: "package of modules"
    ) {
      $0.unloadVFIO()
      $0.host.files["lib/modules/\(DoctorHost.release)/modules.dep"] = "kernel/fs/ext4/ext4.ko:"
    },
    DoctorCase(
      "the IOMMU is off", "iommu", .missing, evidence: "though the kernel has CONFIG_INTEL_IOMMU",
      remedy: "intel_iommu=on"
    ) {
      $0.replace("iommu on", "iommu off")
      for group in [2, 3, 5, 7, 8, 9, 10, 11] { $0.replace(" group=\(group)\n", "\n") }
      $0.host.files["sys/class/iommu/dmar0/intel-iommu/ecap"] = nil
      $0.host.links = $0.host.links.filter { !$0.key.hasSuffix("/iommu") }
    },
    DoctorCase(
      "the kernel has no driver of an IOMMU", "iommu", .missing, evidence: "has no IOMMU driver",
      remedy: "boot a kernel with CONFIG_INTEL_IOMMU"
    ) {
      $0.replace("iommu on", "iommu off")
      for group in [2, 3, 5, 7, 8, 9, 10, 11] { $0.replace(" group=\(group)\n", "\n") }
      $0.host.files["sys/class/iommu/dmar0/intel-iommu/ecap"] = nil
      $0.host.links = $0.host.links.filter { !$0.key.hasSuffix("/iommu") }
      $0.configure("INTEL_IOMMU")
    },
    DoctorCase("there is no iommufd", "iommufd", .warning, evidence: "has no CONFIG_IOMMUFD", remedy: "CONFIG_IOMMUFD")
    {
      $0.host.files["dev/iommu"] = nil
      $0.configure("IOMMUFD")
    },
    DoctorCase(
      "/dev/iommu is root's alone", "iommufd-access", .missing, evidence: "user 4242, of the groups 4242, 36, 107",
      remedy: "udev rule"
    ) { $0.host.modes["dev/iommu"] = 0o600 },
    DoctorCase(
      "the kernel has no character devices of VFIO devices", "vfio-cdev", .warning,
      evidence: "has no CONFIG_VFIO_DEVICE_CDEV", remedy: "6.6 or newer"
    ) {
      for nic in 0..<2 {
        $0.host.absent += [
          "\(DoctorHost.home(nic, function: 2))/vfio-dev/vfio\(nic)/dev", "dev/vfio/devices/vfio\(nic)",
        ]
      }
      $0.configure("VFIO_DEVICE_CDEV")
    },
    DoctorCase("debugfs can't be read", "debugfs", .unknown, evidence: "can't be read", remedy: "mount -t debugfs") {
      $0.host.files = $0.host.files.filter { !$0.key.hasPrefix("sys/kernel/debug") }
    },
    DoctorCase("debugfs has nothing of VFIO", "debugfs", .warning, evidence: "/vfio", remedy: "CONFIG_VFIO_DEBUGFS") {
      $0.host.files = $0.host.files.filter { !$0.key.hasPrefix("sys/kernel/debug") }
      $0.host.files["sys/kernel/debug/sleep_time"] = "0"
    },
    DoctorCase(
      "a kernel that maps no peer's BAR into an iommufd", "dma-buf", .warning, evidence: "this is Linux 6.12.1",
      remedy: "Linux 7.0"
    ) { $0.boot("6.12.1") },
    DoctorCase(
      "dma-bufs are not configured", "dma-buf", .warning, evidence: "has no CONFIG_VFIO_PCI_DMABUF", remedy: "Linux 7.0"
    ) { $0.configure("VFIO_PCI_DMABUF") },
  ]

  static let devices: [DoctorCase] = [
    DoctorCase(
      "no driver has it", "driver", .missing, evidence: "no driver has it; modules.alias names mlx5_vfio_pci",
      remedy: "echo 0000:16:00.2 >/sys/bus/pci/drivers_probe"
    ) {
      $0.replace("driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0 vfio=0", "bars=0:2Mp ats=off vf-of=16:00.0")
    },
    DoctorCase(
      "the host's own driver has it", "driver", .missing,
      evidence: "mlx5_core has it; modules.alias names mlx5_vfio_pci",
      remedy: "echo mlx5_vfio_pci >/sys/bus/pci/devices/0000:16:00.2/driver_override"
    ) {
      $0.replace(
        "driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0 vfio=0",
        "driver=mlx5_core bars=0:2Mp ats=off vf-of=16:00.0")
    },
    DoctorCase(
      "vfio-pci has it", "driver", .missing, evidence: "vfio-pci has it; modules.alias names mlx5_vfio_pci",
      remedy: "modprobe mlx5_vfio_pci"
    ) {
      $0.replace(
        "driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0", "driver=vfio-pci bars=0:2Mp ats=off vf-of=16:00.0")
    },
    DoctorCase(
      "vfio-pci has it, and no module is for it", "driver", .missing,
      evidence: "no module of this kernel is for 15b3:101e",
      remedy: "CONFIG_MLX5_VFIO_PCI"
    ) {
      $0.replace(
        "driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0", "driver=vfio-pci bars=0:2Mp ats=off vf-of=16:00.0")
      $0.host.files["lib/modules/\(DoctorHost.release)/modules.alias"] = "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci"
    },
    DoctorCase(
      "another variant driver has it than that which is for it", "driver", .warning,
      evidence: "modules.alias names better_vfio_pci", remedy: "modprobe better_vfio_pci"
    ) {
      $0.host.files["lib/modules/\(DoctorHost.release)/modules.alias"] =
        "alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* better_vfio_pci"
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "another device of its group is the host's", "iommu-group", .missing,
      evidence: "0000:18:00.0 too, and the driver nvme",
      remedy: "echo 0000:18:00.0 >/sys/bus/pci/devices/0000:18:00.0/driver/unbind"
    ) { $0.replace("group=11", "group=5") },
    DoctorCase(
      "no IOMMU is above it", "iommu-group", .missing, evidence: "no iommu_group", remedy: "plug it in elsewhere"
    ) {
      $0.replace(" vfio=0 group=5", " vfio=0")
    },
    DoctorCase("its node is not there", "node", .missing, evidence: "511:0", remedy: "udevadm trigger") {
      $0.host.absent.append("dev/vfio/devices/vfio0")
    },
    DoctorCase("its node is root's alone", "node-access", .missing, evidence: "mode 0600", remedy: "udev rule") {
      $0.host.modes["dev/vfio/devices/vfio0"] = 0o600
    },
    DoctorCase(
      "capabilities can't be read", "capabilities", .unknown, evidence: "could not be read", remedy: "as root"
    ) {
      $0.host.configBytes = 64
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "ID-based ordering is on", "ordering", .warning, evidence: "ID-based ordering on for requests", remedy: "setpci"
    ) { $0.replace("sriov group=3", "sriov ido-requests group=3") },
    DoctorCase(
      "its commands take another way than its data", "control-path", .warning, evidence: "below 0000:15:03.0",
      remedy: "0000:15:01.0"
    ) {
      $0.changeTree = { tree in
        let index = tree.functions.firstIndex { $0.address == "0000:16:00.2" }!
        tree.functions[index].physicalFunction = "0000:17:00.0"
      }
    },
    DoctorCase(
      "the driver has looked, and it can't be migrated", "migration", .missing, evidence: "0000:16:00.2/migration",
      remedy: "VF_MIGRATION_MODE=2"
    ) {
      $0.host.files["sys/kernel/debug/vfio/0000:16:00.2/migration/state"] = nil
      $0.host.files["sys/kernel/debug/vfio/0000:16:00.2/other"] = ""
    },
    DoctorCase(
      "neither device nor IOMMU tracks writes", "dirty-tracking", .warning, evidence: "no second-stage dirty bits",
      remedy: "logs by itself", of: .accelerator
    ) { $0.host.files["sys/class/iommu/dmar0/intel-iommu/ecap"] = "f050df" },
    DoctorCase(
      "the kernel was told not to use scalable mode", "dirty-tracking", .warning, evidence: "sm_off", remedy: "sm_on",
      of: .accelerator
    ) { $0.host.files["proc/cmdline"] = "intel_iommu=on,sm_on intel_iommu=sm_off" },
    DoctorCase(
      "the kernel is older than dirty bits", "dirty-tracking", .warning, evidence: "Linux 6.6.1", remedy: "6.7",
      of: .accelerator
    ) { $0.boot("6.6.1") },
    DoctorCase(
      "an AMD IOMMU without dirty bits", "dirty-tracking", .warning, evidence: "no dirty bits (HDSup)",
      remedy: "logs by itself", of: .accelerator
    ) {
      $0.host.files["sys/class/iommu/dmar0/intel-iommu/ecap"] = nil
      $0.host.files["sys/class/iommu/dmar0/amd-iommu/features"] = "25af732fa2295afe:1d"
    },
    DoctorCase(
      "an IOMMU that says nothing", "dirty-tracking", .unknown, evidence: "does not say", remedy: "configuration",
      of: .accelerator
    ) {
      $0.host.files["sys/class/iommu/dmar0/intel-iommu/ecap"] = nil
      $0.host.files["sys/class/iommu/dmar0/uevent"] = ""
    },
    DoctorCase(
      "two devices without P2P states reach each other", "quiescing", .missing, evidence: "0000:17:00.2",
      remedy: "--no-link 0000:16:00.2,0000:17:00.2", of: .other("8086:4941", driver: "qat_vfio_pci", devices: 2)
    ) { $0.replace("driver=qat_vfio_pci", "driver=hisi-acc-vfio-pci") },
    DoctorCase(
      "nothing is known of its driver", "quiescing", .unknown, evidence: "new_vfio_pci", remedy: "topology --plan",
      of: .accelerator
    ) { $0.replace("driver=qat_vfio_pci", "driver=new_vfio_pci") },
  ]

  static let settings: [DoctorCase] = [
    DoctorCase(
      "a physical function is to be moved", "function", .missing, evidence: "no physfn",
      remedy: "0000:16:00.0/sriov_numvfs"
    ) {
      $0.devices = ["0000:16:00.0"]
      $0.replace(
        "driver=mlx5_core bars=0:32Mp ats=off sriov group=3", "driver=mlx5_vfio_pci bars=0:32Mp ats=off sriov group=3")
      $0.host.files["sys/kernel/debug/vfio/0000:16:00.0/migration/state"] = "RUNNING"
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
      remedy: "devlink dev eswitch set pci/0000:16:00.0 mode switchdev"
    ) {
      $0.network.mode = .legacy
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "nobody says the switch's mode", "eswitch", .unknown, evidence: "neither devlink nor a representor",
      remedy: "mode switchdev"
    ) {
      $0.network.mode = nil
      $0.host.files = $0.host.files.filter { !$0.key.hasSuffix("phys_switch_id") }
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "it was not made migratable", "migratable", .missing, evidence: "that it is not", remedy: "migratable enable"
    ) {
      $0.network.isMigratable = false
      $0.devices = [DoctorHost.functions[0]]
    },
    DoctorCase(
      "the driver does not say whether it is migratable", "migratable", .unknown,
      evidence: "the driver of 0000:16:00.0",
      remedy: "migratable enable"
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
      "peers give up too early", "retry-budget", .warning, evidence: "time-out 14 and 3 retries surely tolerate 201 ms",
      remedy: "time-out 14 and 7 retries"
    ) { $0.expectations.peers = RetryBudget(scheme: .fixed, timeout: 14, retries: 3) },
    DoctorCase(
      "nobody said how long peers wait", "retry-budget", .unknown, evidence: "200 ms and 50 %",
      remedy: "say --timeout N"
    ) { $0.expectations.peers = nil },
  ]
}
