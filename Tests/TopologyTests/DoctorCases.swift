// SPDX-License-Identifier: Apache-2.0
import Glibc
import Migration
import TopologyFixtures

@testable import Topology

/// What can be wrong with a kernel, and with devices.
extension DoctorCase {
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
      $0.host.files = $0.host.files.filter { !$0.key.hasPrefix("sys/class/iommu/") }
      $0.host.links = $0.host.links.filter { !$0.key.hasSuffix("/iommu") }
    },
    DoctorCase(
      "the kernel has no driver of an IOMMU", "iommu", .missing, evidence: "has no IOMMU driver",
      remedy: "boot a kernel with CONFIG_INTEL_IOMMU"
    ) {
      $0.replace("iommu on", "iommu off")
      for group in [2, 3, 5, 7, 8, 9, 10, 11] { $0.replace(" group=\(group)\n", "\n") }
      $0.host.files = $0.host.files.filter { !$0.key.hasPrefix("sys/class/iommu/") }
      $0.host.links = $0.host.links.filter { !$0.key.hasSuffix("/iommu") }
      $0.configure("INTEL_IOMMU")
    },
    DoctorCase("there is no iommufd", "iommufd", .warning, evidence: "has no CONFIG_IOMMUFD", remedy: "CONFIG_IOMMUFD")
    {
      $0.host.files["dev/iommu"] = nil
      $0.configure("IOMMUFD")
    },
    DoctorCase(
      "iommufd is a module, and not loaded", "iommufd", .warning, evidence: "its module iommufd is installed",
      remedy: "modprobe iommufd"
    ) {
      $0.makeIOMMUFDModule()
    },
    DoctorCase(
      "neither VFIO nor iommufd is loaded, of which the first brings the other", "vfio", .missing,
      evidence: "vfio_pci is installed", remedy: "modprobe vfio_pci"
    ) {
      $0.unloadVFIO()
      $0.makeIOMMUFDModule()
    },
    DoctorCase(
      "iommufd has no node", "iommufd", .warning, evidence: "iommufd is in the kernel", remedy: "into the container"
    ) { $0.host.files["dev/iommu"] = nil },
    DoctorCase(
      "/dev/iommu is root's alone", "iommufd-access", .missing, evidence: "user 4242, of the groups 4242, 36, 107",
      remedy: "udev rule"
    ) { $0.host.modes["dev/iommu"] = 0o600 },
    DoctorCase(
      "the kernel has no character devices of VFIO devices", "vfio-cdev", .warning,
      evidence: "has no CONFIG_VFIO_DEVICE_CDEV", remedy: "6.6 or newer"
    ) {
      for nic in 0..<2 { $0.removeDevice(nic) }
      $0.configure("VFIO_DEVICE_CDEV")
    },
    DoctorCase(
      "there is no way but groups, and the kernel has none", "container", .missing,
      evidence: "has no CONFIG_VFIO_GROUP", remedy: "or one with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV",
      of: .byGroup
    ) {
      $0.configure("VFIO_GROUP")
      for group in DoctorHost.groups { $0.host.files["dev/vfio/\(group)"] = nil }
    },
    DoctorCase(
      "the kernel has no groups, and what it has instead was not passed in", "container", .missing,
      evidence: "has no CONFIG_VFIO_GROUP, and there is no", remedy: "pass the node into the container",
      of: .withoutNode
    ) {
      $0.configure("VFIO_GROUP")
      for group in DoctorHost.groups { $0.host.files["dev/vfio/\(group)"] = nil }
    },
    DoctorCase(
      "there is no way but groups, and no container for them", "container", .missing,
      evidence: "has no CONFIG_VFIO_CONTAINER", remedy: "boot a kernel with CONFIG_VFIO_CONTAINER", of: .byGroup
    ) {
      $0.configure("VFIO_CONTAINER")
      $0.host.files["dev/vfio/vfio"] = nil
    },
    DoctorCase(
      "the container's IOMMU is not configured", "container", .missing, evidence: "has no CONFIG_VFIO_IOMMU_TYPE1",
      remedy: "boot a kernel with CONFIG_VFIO_IOMMU_TYPE1", of: .byGroup
    ) {
      $0.configure("VFIO_IOMMU_TYPE1")
    },
    DoctorCase(
      "the container's IOMMU is not loaded", "container", .missing,
      evidence: "its module vfio_iommu_type1 is installed", remedy: "modprobe vfio_iommu_type1", of: .byGroup
    ) { $0.host.files["sys/module/vfio_iommu_type1/refcnt"] = nil },
    DoctorCase(
      "there is no node of containers", "container", .missing, evidence: "there is no", remedy: "misc/vfio/dev",
      of: .byGroup
    ) { $0.host.files["dev/vfio/vfio"] = nil },
    DoctorCase(
      "the container is root's alone", "container-access", .missing, evidence: "/vfio/vfio belongs to",
      remedy: "udev rule", of: .byGroup
    ) { $0.host.modes["dev/vfio/vfio"] = 0o600 },
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
      remedy: "this one alone: modprobe mlx5_vfio_pci; echo mlx5_vfio_pci >"
    ) {
      $0.replace("driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0 vfio=0", "bars=0:2Mp ats=off vf-of=16:00.0")
    },
    DoctorCase(
      "the host's own driver has it", "driver", .missing,
      evidence: "mlx5_core has it; modules.alias names mlx5_vfio_pci",
      remedy:
        "echo 0000:16:00.2 >/sys/bus/pci/drivers_probe; all VFs of 0000:16:00.0: vfio-ferry prepare 0000:16:00.0 --vfs 1"
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
    DoctorCase("its node is not there", "node", .missing, evidence: "511:0", remedy: "vfio-dev/*/dev") {
      $0.host.absent.append("dev/vfio/devices/vfio0")
    },
    DoctorCase(
      "it has only its group's node, and others have their own", "node", .warning, evidence: "/vfio/5 only",
      remedy: "--group"
    ) { $0.removeDevice(0) },
    DoctorCase(
      "its group's node is not there, and there is no other", "node", .missing, evidence: "by its group only",
      remedy: "class/vfio/5/dev", of: .byGroup
    ) { $0.host.files["dev/vfio/5"] = nil },
    DoctorCase(
      "its group's node, the only one, is root's alone", "node-access", .missing, evidence: "/vfio/5 belongs to",
      remedy: "udev rule", of: .byGroup
    ) { $0.host.modes["dev/vfio/5"] = 0o600 },
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
      remedy: "0000:15:01.0", of: .accelerator
    ) {
      let link = "\(DoctorHost.home(0, function: 2))/physfn"
      $0.host.absent.append(link)
      $0.host.links[link] = DoctorHost.home(1, function: 0)
    },
    DoctorCase(
      "its physical function is not to be seen", "control-path", .unknown, evidence: "0000:16:00.7 is not there",
      remedy: "on the host itself", of: .accelerator
    ) {
      let link = "\(DoctorHost.home(0, function: 2))/physfn"
      $0.host.absent.append(link)
      $0.host.links[link] = DoctorHost.home(0, function: 7)
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
      "a mediated device that is opened by its node has no page table", "dirty-tracking", .warning,
      evidence: "an iommufd has no dirty bits of it", remedy: "--group", of: .mediated
    ) {
      let device = "sys/devices/virtual/mtty/mtty/\($0.devices[0])/vfio-dev/vfio2"
      $0.host.files["\(device)/dev"] = "511:2"
      $0.host.files["dev/vfio/devices/vfio2"] = ""
      $0.host.modes["dev/vfio/devices/vfio2"] = 0o666
      $0.host.files["dev/iommu"] = ""
      $0.configure("IOMMUFD", "y")
      $0.configure("VFIO_DEVICE_CDEV", "y")
    },
    DoctorCase(
      "two devices without P2P states reach each other", "quiescing", .missing, evidence: "0000:17:00.2",
      remedy: "--no-link 0000:16:00.2,0000:17:00.2", of: .other("8086:4941", driver: "qat_vfio_pci", devices: 2)
    ) { $0.replace("driver=qat_vfio_pci", "driver=hisi_acc_vfio_pci") },
    DoctorCase(
      "nothing is known of its driver", "quiescing", .unknown, evidence: "new_vfio_pci", remedy: "topology --plan",
      of: .accelerator
    ) { $0.replace("driver=qat_vfio_pci", "driver=new_vfio_pci") },
  ]
}
