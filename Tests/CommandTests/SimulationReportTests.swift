// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation
@testable import vfio_ferry

struct SimulationReportTests {
  /// A report on a real run with invented observations in it.
  private func report(
    _ builtIn: BuiltInWorld = .nicGPU, violations: [String] = [], change: (inout Scenario) -> Void = { _ in }
  ) throws -> SimulationReport {
    var scenario = Scenario(world: builtIn.description, seed: 7)
    change(&scenario)
    var world = try SimulatedWorld.ready(scenario)
    while world.advance() {}
    for violation in violations { world.referee.record(violation, at: world.now) }
    var report = SimulationReport(
      world, scenario: builtIn.rawValue, seed: 7, command: "vfio-ferry simulate again", faults: ["something breaks"],
      expectsSuccess: false)
    report.summary.peers = InventedMove.peers
    report.summary.memory = InventedMove.memory
    report.summary.stopPhases = InventedMove.phases
    return report
  }

  @Test("the table says what took how long, how memory went over, and what the peers saw")
  func table() throws {
    let lines = try report().table
    #expect(lines.contains { $0.hasPrefix("vCPUs stop ") && $0.hasSuffix(" 20.500 ms  100 us") })
    #expect(lines.contains { $0.contains("2048 pages, sent in rounds of 2048, 310, 41, 12") })
    #expect(lines.contains { $0.contains("64 connections, none broke; 9590 of 9600 answers came, none wrong") })
    #expect(lines.contains { $0.contains("71 us in the mean and 5430 us at most") && $0.contains("6100 us") })
    #expect(lines.contains("31 of 40000 packets were sent again."))
    #expect(lines.contains("  something breaks"))
    #expect(lines.last?.hasSuffix("vfio-ferry simulate again") == true)
  }

  @Test("a broken rule is in the verdict, and is what the command fails with")
  func violation() throws {
    let report = try report(violations: ["the guest's page 7 differs"])
    #expect(report.table.contains { $0.hasPrefix("BROKEN: ") && $0.contains("page 7 differs") })
    #expect(report.problem?.contains("page 7 differs") == true)
    #expect(try self.report().problem == nil)
  }

  @Test("a move whose source is killed says so, and what the other side made of it")
  func killed() throws {
    let report = try report { $0.kills = [Scenario.Interrupt(.source, .at(InventedMove.time(1_500)))] }
    #expect(report.ending.kind != .moved || report.summary.place != nil)
    #expect(report.statements[0] == "source: its process was killed, and the kernel reset its devices")
    #expect(report.statements[1].hasPrefix("destination: loading failed: "))
  }

  @Test("devices that fared alike are counted, not listed")
  func manyDevices() throws {
    let report = try report(.hgx) { $0.kills = [Scenario.Interrupt(.source, .at(InventedMove.time(1_500)))] }
    #expect(report.statements[1].contains("16 devices: "))
  }

  @Test("JSON has every figure under a key with its unit")
  func json() throws {
    let text = try report().json.text(pretty: false)
    for part in [
      #""scenario":"nic-gpu","seed":7,"faults":["something breaks"]"#, #""downtime_us":"#, #""total_us":"#,
      #""stop_phases":[{"phase":"vCPUs stop","begin_us":20500,"took_us":100}"#, #""violations":[]"#,
      #""memory":{"pages":2048,"round_pages":[2048,310,41,12],"channel_bytes":9871360}"#,
      #""peers":{"connections":64,"broken_connections":0,"answers":9590,"wanted_answers":9600,"wrong_answers":0,"#,
      #""mean_round_trip_us":71,"longest_round_trip_us":5430,"longest_silence_us":6100,"packets":40000,"#,
      #""retransmitted_packets":31}"#, #""stop_copy_bytes":"#, #""p2p_us":"#, #""on_wire_us":"#,
    ] { #expect(text.contains(part), "\(part)") }
  }

  @Test("what the options changed is held against the run without them")
  func comparison() throws {
    var report = try report()
    var other = report.summary
    other.peers = PeerSummary(
      connections: 64, broken: 3, answered: 1, wanted: 1, wrong: 0, meanRoundTrip: 1, longestRoundTrip: 88,
      longestSilence: 99, packets: 5, retransmitted: 4)
    report.comparison = SimulationComparison(
      options: ["--drain"], with: report.summary, without: other, stoppedWith: 12_345, stoppedWithout: 678)
    let table = report.table
    #expect(table.contains { $0.hasPrefix("COMPARED ") && $0.hasSuffix("WITH --drain  WITHOUT") })
    #expect(table.contains { $0.hasPrefix("the machine stood still ") && $0.hasSuffix(" 12.3 ms       678 us") })
    #expect(table.contains { $0.hasPrefix("connections that broke ") && $0.hasSuffix(" 0             3") })
    #expect(report.json.text(pretty: false).contains(#""compared_with":{"options":["--drain"],"downtime_us":678"#))
  }

  @Test("a digest has sixteen digits")
  func digest() {
    #expect(SimulationReport.digest(0xabc) == "0000000000000abc")
    #expect(SimulationReport.digest(.max) == "ffffffffffffffff")
  }

  // MARK: While it goes on

  @Test("sixteen devices fit on forty lines of eighty letters")
  func pane() {
    let device = SimulationPane.Device(
      name: "0000:17:00.2", source: .preCopyP2P, destination: .runningP2P, bytes: 123 << 20, expectedBytes: 200 << 20)
    let pane = SimulationPane(
      devices: [SimulationPane.Device](repeating: device, count: 16), memory: InventedMove.memory,
      peers: InventedMove.peers, place: .stopped, stoppedMicroseconds: 3_200, answersPerMillisecond: 31)
    let lines = pane.lines
    #expect(lines.count == 20 && lines.allSatisfy { $0.count < 80 })
    #expect(lines[1] == "0000:17:00.2 pre-copy-p2p  [#########.......] running-p2p  123.0 MiB")
    #expect(lines[17].contains("2048 pages, round 4 with 12"))
    #expect(lines[18].contains("9590 of 9600 answers, 31 in a ms"))
    #expect(lines[19] == "machine        runs nowhere, stopped for 3200 us so far")
  }

  @Test("each part of the way of a move is told in words of its own", arguments: BuiltInWorld.allCases)
  func phases(builtIn: BuiltInWorld) throws {
    var world = try SimulatedWorld.ready(Scenario(world: builtIn.description, seed: 1))
    while world.advance() {}
    var phases = SimulationPhases(names: world.devices(of: .source).map(\.configuration.name))
    let lines = phases.lines(world.notes).map(\.text)
    let spoken = world.notes.compactMap { timed -> String? in
      if case .phase(let name) = timed.note { name } else { nil }
    }
    // The session's own words are for those who know them.
    #expect(lines.allSatisfy { line in !spoken.contains { line.hasSuffix("  \($0)") } }, "\(lines)")
    #expect(lines.contains { $0.contains("they start no transfer to each other any more") })
    #expect(lines.contains { $0.contains("only the destination may run") })
  }
}
