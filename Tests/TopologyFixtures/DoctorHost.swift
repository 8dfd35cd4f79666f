// SPDX-License-Identifier: Apache-2.0
import Foundation

/// A described host as the doctor sees it: its tree, and the files of kernel, processes and limits. As it is made nothing is
/// wrong with it; a test changes one thing.
public struct DoctorHost: Sendable {
  /// The tree; see ``HostDescription``.
  public var tree: String
  /// Files below the host's root, with their text.
  public var files: [String: String]
  /// What is not there although the tree has it: files, folders and links. Others may be put in their place.
  public var absent: [String] = []
  /// Links, and the paths that they lead to.
  public var links: [String: String]
  /// The modes of nodes.
  public var modes: [String: Int]
  /// How much of each configuration space can be read.
  public var configBytes: Int?

  /// Two ConnectX-7, below one host bridge, and a virtual function of each.
  public static let connectX = DoctorHost(
    tree: """
      iommu on
      host pci0000:15 node=0
        15:01.0 root-port acs=sv,rr,cr,uf group=2
          16:00.0 endpoint id=15b3:1021 class=0x020000 driver=mlx5_core bars=0:32Mp ats=off sriov group=3
          16:00.2 endpoint id=15b3:101e class=0x020000 driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=16:00.0 vfio=0 group=5
        15:03.0 root-port acs=sv,rr,cr,uf group=7
          17:00.0 endpoint id=15b3:1021 class=0x020000 driver=mlx5_core bars=0:32Mp ats=off sriov group=8
          17:00.2 endpoint id=15b3:101e class=0x020000 driver=mlx5_vfio_pci bars=0:2Mp ats=off vf-of=17:00.0 vfio=1 group=9
        15:05.0 root-port acs=sv,rr,cr,uf group=10
          18:00.0 endpoint id=144d:a80a class=0x010802 driver=nvme bars=0:16K group=11
      rdma mlx5_0 at=16:00.0 firmware=28.41.1000 port1=active,ethernet
      rdma mlx5_1 at=17:00.0 firmware=28.41.1000 port1=active,ethernet
      """,
    modalias: "pci:v000015B3d0000101Esv000015B3sd00000058bc02sc00i00")

  /// The addresses of the functions that are to be moved.
  public static let functions = ["0000:16:00.2", "0000:17:00.2"]
  /// Their IOMMU groups.
  public static let groups = [5, 9]
  /// Where the root of both is in sysfs.
  private static let homes = [
    "sys/devices/pci0000:15/0000:15:01.0/0000:16:00", "sys/devices/pci0000:15/0000:15:03.0/0000:17:00",
  ]
  /// The release of its kernel.
  public static let release = "7.0.3"

  /// A folder of a function of either NIC, below the host's root.
  public static func home(_ nic: Int, function: Int) -> String { "\(homes[nic]).\(function)" }

  private init(tree: String, modalias: String) {
    self.tree = tree
    let modules = "lib/modules/\(Self.release)"
    files = [
      "proc/sys/kernel/osrelease": Self.release,
      "proc/cmdline": "quiet intel_iommu=on,sm_on",
      "boot/config-\(Self.release)": """
      CONFIG_INTEL_IOMMU=y
      # CONFIG_AMD_IOMMU is not set
      CONFIG_IOMMUFD=y
      CONFIG_PCI_IOV=y
      CONFIG_VFIO=m
      CONFIG_VFIO_GROUP=y
      CONFIG_VFIO_CONTAINER=y
      CONFIG_VFIO_IOMMU_TYPE1=m
      CONFIG_VFIO_DEVICE_CDEV=y
      CONFIG_VFIO_PCI=m
      CONFIG_VFIO_PCI_DMABUF=y
      CONFIG_MLX5_VFIO_PCI=m
      """,
      "\(modules)/modules.dep": """
      kernel/drivers/vfio/vfio.ko.xz:
      kernel/drivers/vfio/vfio_iommu_type1.ko.xz: kernel/drivers/vfio/vfio.ko.xz
      kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz
      kernel/drivers/vfio/pci/mlx5/mlx5-vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz
      """,
      "\(modules)/modules.builtin": "kernel/drivers/iommu/iommufd/iommufd.ko",
      "\(modules)/modules.alias": """
      alias pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_core
      alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
      alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci
      """,
      "sys/module/vfio/refcnt": "2",
      "sys/module/vfio_iommu_type1/refcnt": "0",
      "sys/class/iommu/dmar0/intel-iommu/cap": "d2008c40660462",
      "sys/class/iommu/dmar0/intel-iommu/ecap": "ee9e86f050df",
      "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "512",
      "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "0",
      "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
      "sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152",
      "dev/iommu": "",
      "dev/vfio/vfio": "",
      // Nobody's own: who may open what is a matter of the nodes' modes.
      "proc/self/status":
        "Name:\tvmm\nUid:\t4242\t4242\t4242\t4242\nGid:\t4242\t4242\t4242\t4242\nGroups:\t36 107\nCapEff:\t0",
      "proc/self/limits": "Max locked memory         unlimited            unlimited            bytes",
      "proc/self/cgroup": "0::/machine.slice/guest.scope",
      "sys/fs/cgroup/machine.slice/memory.max": "68719476736",
      "sys/fs/cgroup/machine.slice/guest.scope/memory.max": "max",
    ]
    links = [:]
    modes = ["dev/iommu": 0o666, "dev/vfio/vfio": 0o666]
    for (nic, address) in Self.functions.enumerated() {
      let (virtual, physical) = (Self.home(nic, function: 2), Self.home(nic, function: 0))
      files["\(virtual)/modalias"] = modalias
      files["sys/kernel/debug/vfio/\(address)/migration/state"] = "RUNNING"
      links["\(virtual)/iommu"] = "sys/class/iommu/dmar0"
      files["\(physical)/sriov_totalvfs"] = "8"
      files["dev/vfio/\(Self.groups[nic])"] = ""
      modes["dev/vfio/\(Self.groups[nic])"] = 0o666
      modes["dev/vfio/devices/vfio\(nic)"] = 0o666
      // The physical function's own interface, and the representor of its first function.
      for (name, port) in [("uplink\(nic)", "p0"), ("rep\(nic)", "pf0vf0")] {
        files["\(physical)/net/\(name)/ifindex"] = "\(port == "p0" ? 5 + nic : 7 + nic)"
        files["\(physical)/net/\(name)/phys_port_name"] = port
        files["\(physical)/net/\(name)/phys_switch_id"] = "c0ffee\(nic)"
        links["\(physical)/net/\(name)/device"] = physical
        links["sys/class/net/\(name)"] = "\(physical)/net/\(name)"
      }
    }
  }

  /// The host as a folder, for as long as the object is kept.
  public func make() throws -> FixtureHost {
    let host = try FixtureHost(text: tree, configBytes: configBytes)
    for path in absent { try FileManager.default.removeItem(at: host.folder.appendingPathComponent(path)) }
    for (path, text) in files { try host.write(path, text) }
    for (path, target) in links { try host.link(path, to: target) }
    for (path, mode) in modes {
      let path = host.folder.appendingPathComponent(path).path
      guard FileManager.default.fileExists(atPath: path) else { continue }
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }
    return host
  }
}
