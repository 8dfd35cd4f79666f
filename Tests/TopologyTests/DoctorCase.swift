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
    /// Conditions that do not hold already, because what is tried matters only there.
    var known: [String] = []
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

  /// ConnectX functions that can be opened by their groups only.
  static var byGroup: Self {
    var subject = connectX
    for nic in 0..<2 { subject.removeDevice(nic) }
    subject.configure("VFIO_DEVICE_CDEV")
    subject.known = ["vfio-cdev"]
    return subject
  }

  /// The same devices where /dev has no iommufd.
  static var withoutNode: Self {
    var subject = connectX
    subject.host.files["dev/iommu"] = nil
    subject.known = ["iommufd"]
    return subject
  }

  /// A physical function, from which virtual ones are yet to be made.
  static var physical: Self {
    var subject = connectX
    subject.devices = ["0000:16:00.0"]
    subject.replace(
      "driver=mlx5_core bars=0:32Mp ats=off sriov group=3",
      "driver=mlx5_vfio_pci bars=0:32Mp ats=off sriov vfio=2 group=3")
    subject.host.files["sys/kernel/debug/vfio/0000:16:00.0/migration/state"] = "RUNNING"
    subject.host.modes["dev/vfio/devices/vfio2"] = 0o666
    subject.known = ["function"]
    return subject
  }

  /// A mediated device, which is opened by its group because there is no iommufd.
  static var mediated: Self {
    var subject = byGroup
    subject.devices = ["83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"]
    let home = "sys/devices/virtual/mtty/mtty/\(subject.devices[0])"
    subject.host.files["\(home)/vfio-dev/vfio2/uevent"] = ""
    subject.host.files["sys/kernel/debug/vfio/\(subject.devices[0])/migration/state"] = "RUNNING"
    subject.host.files["dev/vfio/12"] = ""
    subject.host.modes["dev/vfio/12"] = 0o666
    subject.host.links["sys/bus/mdev/devices/\(subject.devices[0])"] = home
    subject.host.links["\(home)/driver"] = "sys/bus/mdev/drivers/mtty"
    subject.host.links["\(home)/iommu_group"] = "sys/kernel/iommu_groups/12"
    subject.host.files["dev/iommu"] = nil
    subject.configure("IOMMUFD")
    subject.known = ["iommufd"]
    return subject
  }

  /// As if the kernel had no character device of a function, or of its only one.
  mutating func removeDevice(_ nic: Int) {
    host.absent += ["\(DoctorHost.home(nic, function: 2))/vfio-dev/vfio\(nic)/dev", "dev/vfio/devices/vfio\(nic)"]
  }

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
    for module in ["vfio", "vfio_iommu_type1"] { host.files["sys/module/\(module)/refcnt"] = nil }
  }

  /// As if iommufd were no part of the kernel, and were not loaded.
  mutating func makeIOMMUFDModule() {
    let modules = "lib/modules/\(DoctorHost.release)"
    configure("IOMMUFD", "m")
    host.files["\(modules)/modules.builtin"] = nil
    host.files["\(modules)/modules.dep"]! += "\nkernel/drivers/iommu/iommufd/iommufd.ko.xz:"
    host.files["dev/iommu"] = nil
  }

  mutating func boot(_ release: String) {
    for (path, text) in host.files where path.contains(DoctorHost.release) {
      host.files[
        path.split(separator: DoctorHost.release, omittingEmptySubsequences: false).joined(separator: release)] = text
    }
    host.files["proc/sys/kernel/osrelease"] = release
  }
}
