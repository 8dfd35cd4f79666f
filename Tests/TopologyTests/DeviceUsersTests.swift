// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing
import TopologyFixtures

@testable import Topology

@Suite("Who uses a device by its driver")
struct DeviceUsersTests {
  private let host: FixtureHost
  private let address = "0000:17:00.0"
  private var folder: String { "\(host.root.sys)/bus/pci/devices/\(address)" }

  init() throws { host = try FixtureHost(.server) }

  private func users(_ addresses: [String: [String]] = [:]) -> [String] {
    DeviceUsers(root: host.root, addresses: { addresses }).all(of: folder)
  }

  /// A descriptor of a process as the kernel shows it, which knows no folder of a test's.
  private func open(_ path: String, _ node: String) throws {
    try FileManager.default.createSymbolicLink(atPath: "\(host.folder.path)/\(path)", withDestinationPath: node)
  }

  private func interface(_ name: String, flags: String) throws -> String {
    let home = "\(host.path(of: address))/net/\(name)"
    try host.write("\(home)/flags", flags)
    return home
  }

  @Test("an interface that is up with an address, or a part of another, is in use; others are not")
  func interfaces() throws {
    #expect(users() == [])
    let home = try interface("ens1", flags: "0x1003")
    #expect(users() == [])
    #expect(users(["lo": ["127.0.0.1"]]) == [])
    #expect(users(["ens1": ["192.0.2.1", "2001:db8::1"]]) == ["its interface ens1 is up with 192.0.2.1, 2001:db8::1"])
    try host.write("\(home)/flags", "0x1002")
    #expect(users(["ens1": ["192.0.2.1"]]) == [])
    try host.link("\(home)/master", to: "sys/class/net/bond0")
    #expect(users() == ["its interface ens1 is a part of bond0"])
  }

  @Test("an Ethernet function whose driver shows no interface here may be used in another network namespace")
  func unseen() throws {
    let physical = host.path(of: "0000:16:00.0")
    let folder = "\(host.root.sys)/bus/pci/devices/0000:16:00.0"
    func users(_ folder: String) -> [String] { DeviceUsers(root: host.root, addresses: { [:] }).all(of: folder) }
    func expectUnseen() {
      let found = users(folder)
      #expect(found.count == 1 && found[0].hasPrefix("its driver mlx5_core shows no interface of it here"), "\(found)")
      #expect(
        found.first?.hasSuffix("if nobody has it: echo 0000:16:00.0 >/sys/bus/pci/drivers/mlx5_core/unbind") == true)
    }
    expectUnseen()
    // A representor is another function's.
    try host.write("\(physical)/net/eth1/phys_port_name", "pf0vf0")
    expectUnseen()
    try host.write("\(physical)/net/eth0/flags", "0x1002")
    #expect(users(folder) == [])
    // VFIO's drivers make no interfaces, and nobody misses one of what no driver has, or of what is no Ethernet function.
    #expect(users("\(host.root.sys)/bus/pci/devices/0000:16:00.2") == [])
    #expect(self.users() == [])
    try FileManager.default.removeItem(atPath: "\(host.folder.path)/\(physical)/net")
    try host.write("\(physical)/virtio3/net/eth7/flags", "0x1002")
    #expect(users(folder) == [])
    try FileManager.default.removeItem(atPath: "\(host.folder.path)/\(physical)/virtio3")
    try host.make("\(physical)/vdpa0")
    #expect(users(folder) == [])
    try FileManager.default.removeItem(atPath: "\(host.folder.path)/\(physical)/vdpa0")
    try FileManager.default.removeItem(atPath: "\(host.folder.path)/\(physical)/driver")
    #expect(users(folder) == [])
  }

  @Test("a representor is not the function's own interface")
  func representors() throws {
    let home = try interface("ens1pf0vf0", flags: "0x1003")
    try host.write("\(home)/phys_port_name", "pf0vf0")
    #expect(users(["ens1pf0vf0": ["192.0.2.1"]]) == [])
  }

  @Test("a block device that is mounted, held by another, swap, or open in a process is in use")
  func blockDevices() throws {
    let home = "\(host.path(of: address))/nvme/nvme0/nvme0n1"
    try host.write("\(home)/dev", "259:0")
    try host.link("sys/class/block/nvme0n1", to: home)
    try host.write("sys/devices/virtual/block/loop0/dev", "7:0")
    try host.link("sys/class/block/loop0", to: "sys/devices/virtual/block/loop0")
    try host.write("proc/self/mountinfo", "22 1 7:0 / / rw shared:1 - ext4 /dev/loop0 rw")
    try host.write("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n12 partition 8 0 -2")
    #expect(users() == [])
    try host.write("proc/self/mountinfo", "22 1 259:0 / /data rw shared:1 - ext4 /dev/nvme0n1 rw")
    try host.make("\(home)/holders/dm-0")
    try host.write("proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1 partition 8 0 -2")
    try host.write("proc/4711/comm", "qemu-system-x86")
    try host.make("proc/4711/fd")
    try host.link("proc/4711/fd/7", to: "dev/nvme0n1")
    #expect(
      users() == ["its nvme0n1 is mounted at /data", "its nvme0n1 is a part of dm-0", "its nvme0n1 is swap"])
    try open("proc/4711/fd/8", "/dev/nvme0n1")
    #expect(users().last == "process 4711 (qemu-system-x86) has /dev/nvme0n1 open")
  }

  @Test("an interface with others on it is in use")
  func upper() throws {
    let home = try interface("ens1", flags: "0x1002")
    try host.link("\(home)/upper_macvtap0", to: "sys/class/net/macvtap0")
    #expect(users() == ["its interface ens1 is under macvtap0"])
  }

  @Test("a multipath device of an NVMe subsystem is in use by each of its controllers, and not by others")
  func multipath() throws {
    try host.make("\(host.path(of: address))/nvme/nvme3")
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys1"
    try host.write("\(subsystem)/nvme1n1/nvme1n1p2/dev", "259:7")
    try host.link("sys/class/nvme-subsystem/nvme-subsys1", to: subsystem)
    try host.link("sys/class/block/nvme1n1p2", to: "\(subsystem)/nvme1n1/nvme1n1p2")
    try host.write("proc/self/mountinfo", "22 1 259:7 / /data rw - ext4 /dev/nvme1n1p2 rw")
    try host.make("\(subsystem)/nvme1")
    #expect(users() == [])
    try host.make("\(subsystem)/nvme3")
    #expect(users() == ["its nvme1n1p2 is mounted at /data"])
  }

  @Test("btrfs is told by what it is made of, as its mounts have a number of their own")
  func btrfs() throws {
    for (name, number) in [("nvme0n1", "259:0"), ("nvme0n2", "259:1"), ("nvme0n3", "259:2")] {
      let home = "\(host.path(of: address))/nvme/nvme0/\(name)"
      try host.write("\(home)/dev", number)
      try host.link("sys/class/block/\(name)", to: home)
    }
    try host.write("proc/self/mountinfo", "22 1 0:41 / /data rw shared:1 master:2 - btrfs /dev/nvme0n1 rw")
    try host.make("sys/fs/btrfs/1c0e4d5a/devices/nvme0n2")
    #expect(users() == ["its nvme0n1 is mounted at /data", "its nvme0n2 is a part of btrfs 1c0e4d5a"])
  }

  @Test("a vDPA device is in use by who has its node open, or by its interface")
  func virtualDataPath() throws {
    let home = "\(host.path(of: address))/vdpa0"
    try host.make("\(home)/vhost-vdpa-3")
    try host.link("sys/bus/vdpa/devices/vdpa0", to: home)
    try host.make("proc/88/fd")
    #expect(users() == [])
    try open("proc/88/fd/3", "/dev/vhost-vdpa-3")
    try host.write("\(home)/virtio5/net/eth7/flags", "0x1003")
    #expect(
      users(["eth7": ["192.0.2.7"]]) == [
        "its interface eth7 is up with 192.0.2.7", "process 88 has /dev/vhost-vdpa-3 open",
      ])
  }

  @Test("an RDMA device that a process has open is in use")
  func verbs() throws {
    try host.make("\(host.path(of: address))/infiniband_verbs/uverbs3")
    try host.make("proc/88/fd")
    try open("proc/88/fd/3", "/dev/infiniband/uverbs3")
    #expect(users() == ["process 88 has /dev/infiniband/uverbs3 open"])
  }
}
