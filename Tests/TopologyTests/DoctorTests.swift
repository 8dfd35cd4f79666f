// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing
import TopologyFixtures

@testable import Topology

@Suite("The doctor, on described hosts")
struct DoctorTests {
  private func diagnose(_ subject: DoctorCase.Subject) throws -> Diagnosis {
    let host = try subject.host.make()
    return try withExtendedLifetime(host) {
      let inventory = Inventory(root: host.root)
      let records = try subject.devices.map { try inventory.device(try #require(DeviceName($0))) }
      let facts = HostExamination(root: host.root, network: subject.network)
        .facts(of: records, tree: host.tree, expectations: subject.expectations)
      return Diagnosis(facts)
    }
  }

  @Test(
    "on a host with nothing wrong every condition that applies is judged, and holds",
    arguments: [DoctorCase.Subject.connectX, .accelerator, .other("8086:4941", driver: "qat_vfio_pci", devices: 2)])
  func good(subject: DoctorCase.Subject) throws {
    let diagnosis = try diagnose(subject)
    #expect(diagnosis.findings.filter { $0.state != .ok } == [])
    #expect(diagnosis.worst == .ok)
    // Of other devices nobody knows whether they have such peers.
    let isConnectX = subject.host.tree.contains("driver=mlx5_vfio_pci")
    #expect(diagnosis.unasked.map(\.condition) == (isConnectX ? [] : ["retry-budget"]))
    #expect(diagnosis.findings.allSatisfy { $0.remedy == nil && !$0.evidence.isEmpty && !$0.evidence.hasSuffix(".") })
  }

  @Test("with two ConnectX functions there is a finding for every condition, those of containers where they are needed")
  func all() throws {
    let found = Set(try diagnose(.connectX).findings.map(\.condition))
    #expect(Set(Condition.all.map(\.key)).subtracting(found) == ["container", "container-access"])
    let byGroup = try diagnose(.byGroup).findings
    #expect(byGroup.filter { $0.condition.hasPrefix("container") }.map(\.state) == [.ok, .ok])
  }

  @Test(
    "of a host with one thing wrong exactly that is found, with what was read and what mends it",
    arguments: DoctorCase.kernel + DoctorCase.devices + DoctorCase.settings)
  func broken(one: DoctorCase) throws {
    let already = try diagnose(one.base).findings.filter { $0.state != .ok }
    #expect(already.map(\.condition) == one.base.known, "\(already)")
    var subject = one.base
    one.breakIt(&subject)
    let diagnosis = try diagnose(subject)
    let wrong = diagnosis.findings.filter { $0.state != .ok && !one.base.known.contains($0.condition) }
    #expect(wrong.map(\.condition) == [one.condition], "\(wrong)")
    let finding = try #require(wrong.first)
    #expect(finding.state == one.state)
    if already.isEmpty { #expect(diagnosis.worst == one.state) }
    #expect(finding.evidence.contains(one.evidence), "\(finding.evidence)")
    #expect(finding.remedy?.contains(one.remedy) == true, "\(finding.remedy ?? "")")
    #expect(!finding.why.isEmpty && !finding.evidence.hasSuffix(".") && finding.remedy?.hasSuffix(".") == false)
  }

  @Test("every condition has a case in which it does not hold, but for those that can only be unknown")
  func covered() {
    let broken = Set((DoctorCase.kernel + DoctorCase.devices + DoctorCase.settings).map(\.condition))
    #expect(Set(Condition.all.map(\.key)) == broken)
  }

  @Test("conditions have names of their own, and rest on such as come before them")
  func order() {
    var known: Set<String> = []
    for condition in Condition.all {
      #expect(known.isSuperset(of: condition.restsOn), "\(condition.key)")
      #expect(known.insert(condition.key).inserted, "\(condition.key)")
    }
  }

  @Test("without devices every one on VFIO is looked at, and what was not said is not judged")
  func unasked() throws {
    let host = try DoctorHost.connectX.make()
    let facts = HostExamination(root: host.root, network: DoctorNetwork()).facts(of: nil, tree: host.tree)
    let diagnosis = Diagnosis(facts)
    #expect(diagnosis.worst == .ok)
    #expect(Set(diagnosis.findings.compactMap(\.device)) == Set(DoctorHost.functions))
    let unasked = ["retry-budget", "locked-memory", "memory-limit", "quiescing", "dma-buf"]
    #expect(Set(diagnosis.unasked.map(\.condition)) == Set(unasked))
  }

  @Test("where there is no ConnectX, what peers tolerate is listed as not judged, with the reason")
  func noConnectX() throws {
    let unasked = try diagnose(.accelerator).unasked
    #expect(unasked == [Diagnosis.Unasked(condition: "retry-budget", need: .connectX)])
  }

  @Test("an iommufd's own container needs no IOMMU of type 1, and is said to keep no dirty pages")
  func imitatedContainer() throws {
    var subject = DoctorCase.Subject.byGroup
    for option in ["VFIO_CONTAINER", "VFIO_IOMMU_TYPE1"] { subject.configure(option) }
    subject.configure("IOMMUFD_VFIO_CONTAINER", "y")
    subject.host.files["sys/module/vfio_iommu_type1/refcnt"] = nil
    let found = try diagnose(subject).findings
    #expect(found.filter { $0.state != .ok }.map(\.condition) == ["vfio-cdev"])
    #expect(found.first { $0.condition == "container" }?.evidence.contains("no dirty pages") == true)
  }

  @Test("what devices that rely on the IOMMU lose by groups and containers has the same cause, and is not listed")
  func lostBits() throws {
    var subject = DoctorCase.Subject.accelerator
    subject.host.files["dev/iommu"] = nil
    subject.configure("IOMMUFD")
    #expect(try diagnose(subject).findings.filter { $0.state != .ok }.map(\.condition) == ["iommufd"])
  }

  @Test("huge pages count for no more than the largest page of the IOMMU, and only where the guest can have them")
  func hugePages() throws {
    var subject = DoctorCase.Subject.accelerator
    let gigabytes = "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
    subject.host.files[gigabytes] = "32"
    func found() throws -> Diagnosis.Finding {
      try #require(try diagnose(subject).findings.first { $0.condition == "huge-pages" })
    }
    #expect(try found().state == .warning)
    // Second-stage pages of 2 MiB alone, then of 4 KiB.
    for (register, largest) in [("d2008440660462", "2 MiB"), ("d2008040660462", "4 KiB")] {
      subject.host.files["sys/class/iommu/dmar0/intel-iommu/cap"] = register
      let finding = try found()
      #expect(finding.state == .ok && finding.evidence.hasSuffix("dmar0 has none above \(largest)"), "\(finding)")
    }
    subject.host.files["sys/class/iommu/dmar0/intel-iommu/cap"] = nil
    #expect(try found().state == .warning)
    subject.host.files["sys/kernel/mm/transparent_hugepage/enabled"] = "always madvise [never]"
    #expect(try !found().evidence.contains("transparent"))
  }

  @Test(
    "a VMM that has no reserved huge pages is told from one that has, and from a helper, which need not map the guest",
    arguments: [("vmm", "0", true), ("vmm", "4194304", false), ("vfio-ferry", "0", false)])
  func usedHugePages(name: String, amount: String, isUnused: Bool) throws {
    var subject = DoctorCase.Subject.accelerator
    subject.host.files["sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"] = "32"
    subject.host.files["proc/12/status"] = "Name:\t\(name)\nHugetlbPages:\t   \(amount) kB"
    let host = try subject.host.make()
    let record = try Inventory(root: host.root).device(try #require(DeviceName(subject.devices[0])))
    let facts = HostExamination(root: host.root, network: subject.network).facts(of: [record], tree: host.tree, pid: 12)
    let finding = try #require(Diagnosis(facts).findings.first { $0.condition == "huge-pages" })
    #expect(finding.state == (isUnused ? .ok : .warning))
    #expect(finding.evidence.contains("of which process 12 has none") == isUnused, "\(finding)")
  }

  @Test("a host of which only sysfs is known gives unknown answers and no wrong ones")
  func sysfsOnly() throws {
    let host = try FixtureHost(text: DoctorHost.connectX.tree)
    let facts = HostExamination(root: host.root).facts(of: nil, tree: host.tree)
    let diagnosis = Diagnosis(facts)
    let missing = diagnosis.findings.filter { $0.state > .unknown }
    #expect(missing == [], "\(missing)")
    #expect(diagnosis.worst == .unknown)
  }

  @Test("below another root the running kernel is not asked")
  func otherSystem() throws {
    let host = try DoctorHost.connectX.make()
    let facts = HostExamination(root: host.root).facts(of: nil, tree: host.tree)
    #expect(facts.devices.allSatisfy { $0.migratability == .unknown("only the running kernel tells") })
    // A representor tells the mode all the same.
    #expect(facts.devices.allSatisfy { $0.switchMode == "switchdev" })
  }
}
