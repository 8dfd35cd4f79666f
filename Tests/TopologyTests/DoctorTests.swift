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
      var tree = host.tree
      subject.changeTree(&tree)
      let facts = HostExamination(root: host.root, network: subject.network)
        .facts(of: records, tree: tree, expectations: subject.expectations)
      return Diagnosis(facts)
    }
  }

  @Test(
    "on a host with nothing wrong every condition that applies is judged, and holds",
    arguments: [DoctorCase.Subject.connectX, .accelerator, .other("8086:4941", driver: "qat_vfio_pci", devices: 2)])
  func good(subject: DoctorCase.Subject) throws {
    let diagnosis = try diagnose(subject)
    #expect(diagnosis.findings.filter { $0.state != .ok } == [])
    #expect(diagnosis.worst == .ok && diagnosis.unasked.isEmpty)
    #expect(diagnosis.findings.allSatisfy { $0.remedy == nil && !$0.evidence.isEmpty && !$0.evidence.hasSuffix(".") })
  }

  @Test("on a good host with two ConnectX functions there is a finding for every condition that there is")
  func all() throws {
    let found = Set(try diagnose(.connectX).findings.map(\.condition))
    #expect(Set(Condition.all.map(\.key)).subtracting(found) == [])
  }

  @Test(
    "of a host with one thing wrong exactly that is found, with what was read and what mends it",
    arguments: DoctorCase.kernel + DoctorCase.devices + DoctorCase.settings)
  func broken(one: DoctorCase) throws {
    #expect(try diagnose(one.base).worst == .ok)
    var subject = one.base
    one.breakIt(&subject)
    let diagnosis = try diagnose(subject)
    let wrong = diagnosis.findings.filter { $0.state != .ok }
    #expect(wrong.map(\.condition) == [one.condition], "\(wrong)")
    let finding = try #require(wrong.first)
    #expect(finding.state == one.state && diagnosis.worst == one.state)
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
    #expect(Set(diagnosis.unasked.map(\.key)) == Set(unasked))
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
