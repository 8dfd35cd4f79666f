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
