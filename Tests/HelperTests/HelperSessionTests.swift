// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

@testable import Helper

@Suite("A VMM's session, step by step")
struct HelperSessionTests {
  private typealias Bench = HelperSessionBench

  /// Every request once, by the name that the document has for it.
  private static let requests: [(name: String, request: HelperRequest)] = [
    ("DEVICE_ADD", .addDevice(Bench.device(3))), ("DEVICE_DESCRIBE", .describe(device: 1)),
    ("DEVICE_REMOVE", .removeDevice(1)),
    ("DEVICE_ARC", .arc(device: 1, .stop)), ("DEVICE_RESET", .reset(device: 1)),
    ("DEVICE_LINK", .link(from: 1, to: 2, isThere: true)), ("DEVICE_BLOB", .blob(device: 1, offset: 0, size: 1)),
    ("DEVICE_TAG", .tag(device: 1, offset: 0, size: 1)),
    ("DEVICE_DEAD", .declareDead(device: 1)), ("MEMORY_ADD", .addMemory(Bench.memory)),
    ("MAP_ADD", .addMapping(Bench.mapping)), ("MAP_REMOVE", .removeMapping(Bench.mapping)),
    ("TRACKING_START", .startTracking(pageSize: 4096)), ("TRACKING_READ", .readTracking),
    ("TRACKING_STOP", .stopTracking), ("TRACKING_ADD", .addDirtyPages), ("SAVE_BEGIN", .beginSave(Bench.save())),
    ("STEP", .step(bytesSent: 0)),
    ("ESTIMATE", .estimate), ("VCPUS_STOPPED", .vcpusStopped), ("QUIESCE", .quiesce(bytesSent: 0)),
    ("COMPLETE", .complete(bytesSent: 0)), ("COMMIT", .commit), ("LOAD_BEGIN", .beginLoad(Bench.load)),
    ("BLOB_READ", .readBlob(device: 1)), ("RESUME", .resume), ("ABORT", .abort), ("STATUS", .status),
  ]

  /// The document's table: the requests of each phase.
  private static func table() throws -> [String: Set<String>] {
    let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("docs/helper-protocol.md")
    let text = try String(contentsOf: page, encoding: .utf8)
    let section = try #require(text.components(separatedBy: "## Phases").dropFirst().first)
    var table: [String: Set<String>] = [:]
    for line in section.components(separatedBy: "\n") {
      let parts = line.components(separatedBy: " | ")
      guard parts.count == 2, parts[0] != "phase" else { continue }
      let words = parts[1].split(whereSeparator: { !($0.isLetter || $0 == "_") }).map(String.init)
      let names = Set(words.filter { word in requests.contains { $0.name == word } })
      for phase in parts[0].components(separatedBy: ", ") { table[phase] = names }
    }
    return table
  }

  @Test("each request is taken in the phases that the document names, and in no other", arguments: HelperPhase.allCases)
  func phases(phase: HelperPhase) throws {
    let table = try Self.table()
    let name = phase.name.uppercased().replacingOccurrences(of: "-", with: "_").replacingOccurrences(of: " ", with: "_")
    let own = try #require(table[name], "\(table.keys.sorted())")
    let always = try #require(table["any"])
    // Removal ends what runs; abort and these have a word of their own on each phase.
    let anywhere: Set = ["DEVICE_REMOVE"]
    for (name, request) in Self.requests {
      var bench = Bench.at(phase)
      if name.hasPrefix("TRACKING"), name != "TRACKING_START" { bench.track() }
      if name == "QUIESCE" { bench.ask(.vcpusStopped) }
      let number = bench.ask(request)
      let isTaken = bench.failure(number)?.code != .wrongPhase
      let isAllowed = own.contains(name) || always.contains(name) || anywhere.contains(name)
      // Two that depend on more than the phase.
      if name == "STEP" && phase == .preCopy { continue }
      if name == "DEVICE_DEAD" || (name == "ABORT" && phase == .committed) { continue }
      #expect(isTaken == isAllowed, "\(name) in \(phase.name): \(bench.failure(number)?.text ?? "taken")")
    }
  }

  @Test("nothing is done before hello, and another major version ends the connection")
  func greeting() {
    for (_, request) in Self.requests {
      var bench = Bench(greeted: false)
      let refused1 = bench.refusal(request)
      #expect(refused1?.code == .wrongPhase)
    }
    var bench = Bench(greeted: false)
    let number = bench.ask(.hello(major: 2, minor: 0, features: [], version: ""))
    #expect(bench.failure(number)?.code == .version)
    #expect(bench.actions.contains { if case .end(1, _) = $0 { true } else { false } })
    bench = Bench(greeted: false)
    let newer = bench.ask(
      .hello(major: 1, minor: 7, features: [.pages, HelperFeatures(rawValue: 1 << 9)], version: ""))
    #expect(bench.reply(newer) == .hello(minor: 1, features: .pages, HelperLimits(), version: "test"))
    let refused2 = bench.refusal(.hello(major: 1, minor: 0, features: [], version: ""))
    #expect(refused2?.code == .wrongPhase)
  }

  @Test("a source's way: pre-copy, vCPUs, quiesce, complete, commit; and nothing is let go of before the commit")
  func source() {
    var bench = Bench(devices: [1, 2])
    let begin = bench.ask(.beginSave(Bench.save()))
    #expect(bench.actions.contains(.perform(begin, .save(Bench.save(), [1, 2], []))))
    bench.finish(begin)
    #expect(bench.reply(begin) == .done && bench.session.phase == .preCopy)
    let refused3 = bench.refusal(.quiesce(bytesSent: 0))
    #expect(refused3?.code == .wrongPhase)
    bench.ask(.vcpusStopped)
    let quiesce = bench.ask(.quiesce(bytesSent: 0))
    #expect(bench.actions.contains(.order(.stop)) && bench.reply(quiesce) == nil)
    bench.feed(.note(.phase("copying")))
    #expect(bench.reply(quiesce) != nil)
    let complete = bench.ask(.complete(bytesSent: 0))
    #expect(bench.actions.contains(.order(.finish)) && bench.reply(complete) == nil)
    let refused4 = bench.refusal(.commit)
    #expect(refused4?.code == .wrongPhase)
    bench.feed(.sessionEnded(bench.outcome(.stop)))
    #expect(bench.reply(complete) == .done)
    #expect(!bench.actions.contains(.letGo))
    let commit = bench.ask(.commit)
    #expect(bench.reply(commit) == .done && bench.actions.contains(.letGo))
    let refused5 = bench.refusal(.resume)
    #expect(refused5?.code == .wrongPhase)
    bench.feed(.hungUp)
    #expect(bench.actions.last == .end(0, nil))
  }

  @Test("the VMM sends pages: each step's reply is what its round has found, and the last comes with the quiesce")
  func steps() {
    var bench = Bench(devices: [1])
    bench.finish(bench.ask(.addMemory(Bench.memory)))
    bench.finish(bench.ask(.startTracking(pageSize: 4096)), .bitmap(pageSize: 4096, words: 1, dirty: 1))
    bench.finish(bench.ask(.beginSave(Bench.save(.byVMM))))
    var decision = PreCopyDecision(round: 1, forecast: PreCopyForecast(), limit: 1, verdict: .goOn)
    for round in 1...3 {
      let step = bench.ask(.step(bytesSent: 4096))
      let refused6 = bench.refusal(.step(bytesSent: 0))
      #expect(refused6?.code == .wrongPhase)
      bench.feed(.pagesRead(round == 1 ? .first : .next, dirty: 7))
      #expect(bench.reply(step) == nil)
      decision.round = round
      bench.feed(.note(.decided(decision)))
      #expect(bench.reply(step) == .estimate(HelperEstimate(decision: decision, dirty: 7)))
    }
    bench.ask(.vcpusStopped)
    let quiesce = bench.ask(.quiesce(bytesSent: 4096))
    bench.feed(.note(.phase("copying")))
    #expect(bench.reply(quiesce) == nil)
    bench.feed(.pagesRead(.last, dirty: 3))
    #expect(bench.reply(quiesce) == .estimate(HelperEstimate(decision: decision, dirty: 3, isLast: true)))
    let early = bench.ask(.complete(bytesSent: 0))
    bench.finish(early, .failure(HelperFailure(.refused, "three pages were not sent")))
    #expect(bench.failure(early)?.code == .refused && bench.session.phase == .stopped)
    let complete = bench.ask(.complete(bytesSent: 4096))
    bench.actions = []
    bench.finish(complete)
    #expect(bench.actions == [.order(.finish)])
  }

  @Test("an abort fails what waits, is answered when everything is back, and leaves a session to begin anew")
  func abort() {
    for phase in [HelperPhase.preCopy, .quiescing, .stopped, .loading] {
      var bench = Bench.at(phase)
      let waiting = phase == .stopped ? bench.ask(.complete(bytesSent: 0)) : 0
      let abort = bench.ask(.abort)
      #expect(bench.actions.contains { if case .interrupt = $0 { true } else { false } })
      #expect(bench.reply(abort) == nil)
      bench.feed(.sessionEnded(bench.outcome(.running, fault: .interrupted("the VMM aborts"))))
      #expect(bench.reply(abort) == .done && bench.session.phase == .setup, "\(phase)")
      if waiting != 0 { #expect(bench.failure(waiting)?.code == .aborted) }
      let again = bench.ask(.beginSave(Bench.save()))
      #expect(bench.failure(again) == nil)
    }
  }

  @Test("what comes before a session has begun to run is told it, and is answered where it can't begin")
  func early() {
    var bench = Bench(devices: [1])
    bench.ask(.vcpusStopped)
    let begin = bench.ask(.beginSave(Bench.save()))
    let quiesce = bench.ask(.quiesce(bytesSent: 0))
    #expect(bench.actions.contains(.order(.stop)))
    let abort = bench.ask(.abort)
    #expect(bench.actions.contains { if case .interrupt = $0 { true } else { false } })
    bench.finish(begin, .failure(HelperFailure(.refused, "no order stops these devices")))
    #expect(bench.failure(begin)?.code == .refused && bench.failure(quiesce)?.code == .refused)
    #expect(bench.reply(abort) == .done && bench.session.phase == .setup)
    for number in [begin, quiesce, abort] { #expect(bench.replies(number) == 1) }
  }

  @Test("an abort that leaves a device elsewhere is a failure that says where it is")
  func abortFails() {
    var bench = Bench.at(.preCopy)
    let abort = bench.ask(.abort)
    var outcome = bench.outcome(.running, fault: .interrupted("the VMM aborts"))
    outcome.devices[1].isHung = true
    outcome.cleanupFaults = [.declaredDead(1)]
    bench.feed(.sessionEnded(outcome))
    let failure = bench.failure(abort)
    #expect(failure?.code == .aborted && failure?.text.contains("2 hangs") == true, "\(failure?.text ?? "")")
  }

  @Test("a link that breaks is told, then that the session has failed, and the devices are where they were")
  func link() {
    var bench = Bench.at(.stopped)
    let complete = bench.ask(.complete(bytesSent: 0))
    let error = ChannelError("writing", channel: "the stream", errno: .inputOutput)
    bench.feed(.sessionEnded(bench.outcome(.running, fault: .channel(error))))
    #expect(bench.failure(complete)?.code == .link)
    let events = bench.actions.compactMap { if case .event(let event) = $0 { event } else { nil } }
    #expect(events.contains { if case .linkLost = $0 { true } else { false } })
    #expect(events.contains { if case .failed(let failure) = $0 { failure.code == .link } else { false } })
    #expect(bench.session.phase == .setup)
  }

  @Test("blobs of all devices together have a cap, and a smaller one in place of a larger frees nothing")
  func blobs() {
    var limits = HelperLimits()
    limits.blobs = 100
    var bench = HelperSessionBench(greeted: false)
    bench.session = HelperSession(limits: limits, version: "test")
    bench.ask(.hello(major: 1, minor: 0, features: [], version: "bench"))
    bench.add(1)
    bench.add(2)
    bench.finish(bench.ask(.blob(device: 1, offset: 0, size: 60)))
    #expect(bench.refusal(.blob(device: 2, offset: 0, size: 41))?.code == .limit)
    bench.finish(bench.ask(.blob(device: 1, offset: 0, size: 10)))
    #expect(bench.refusal(.blob(device: 2, offset: 0, size: 41))?.code == .limit)
    #expect(bench.refusal(.blob(device: 2, offset: 0, size: 40)) == nil)
    #expect(bench.refusal(.blob(device: 1, offset: 0, size: 61))?.code == .limit)
    bench.finish(bench.ask(.removeDevice(2)))
    #expect(bench.refusal(.blob(device: 1, offset: 0, size: 100)) == nil)
  }

  @Test("what was said of a removed device's links is not true of the next that has its number")
  func linksOfRemoved() {
    var bench = HelperSessionBench(devices: [1, 2])
    bench.ask(.link(from: 1, to: 2, isThere: false))
    #expect(bench.session.declaredLinks.count == 1)
    bench.finish(bench.ask(.removeDevice(2)))
    bench.add(2)
    #expect(bench.session.declaredLinks.isEmpty)
  }

  @Test("a destination's way: loaded and stopped, blobs, then running; and an abort empties it")
  func destination() {
    var bench = Bench.at(.loaded)
    let blob = bench.ask(.readBlob(device: 2))
    #expect(bench.actions.contains(.perform(blob, .giveBlob(2))))
    let resume = bench.ask(.resume)
    bench.finish(resume)
    #expect(bench.reply(resume) == nil && bench.session.phase == .resuming)
    bench.feed(.sessionEnded(bench.outcome(.running)))
    #expect(bench.reply(resume) == .done && bench.session.phase == .setup)
    bench = Bench.at(.loaded)
    let abort = bench.ask(.abort)
    #expect(bench.actions.contains(.perform(abort, .reset([1, 2]))))
    bench.finish(abort)
    #expect(bench.reply(abort) == .done && bench.session.phase == .setup)
  }

  @Test(
    "a VMM that is gone, or a helper that is told to end, takes nothing with it towards running, and leaves a record",
    arguments: HelperPhase.allCases, [HelperSession.Input.hungUp, .terminated("a signal")])
  func hangUp(phase: HelperPhase, input: HelperSession.Input) {
    var bench = Bench.at(phase)
    bench.feed(input)
    let isFarewell = phase == .setup || phase == .committed
    #expect(bench.actions.count == 1)
    guard case .end(let status, let words) = bench.actions.first else {
      Issue.record("it goes on")
      return
    }
    #expect(status == (isFarewell ? 0 : 1) && (words == nil) == isFarewell)
    #expect(words == nil || words?.contains(" in \(phase.name): ") == true)
    bench.feed(.sessionEnded(bench.outcome(.running)))
    #expect(bench.actions.count == 1)
  }

  @Test("a device that is removed while something runs waits for its end, and is closed then")
  func removal() {
    var bench = Bench.at(.preCopy)
    let remove = bench.ask(.removeDevice(1))
    #expect(bench.reply(remove) == nil)
    bench.feed(.sessionEnded(bench.outcome(.running, fault: .interrupted("device 1 is removed"))))
    #expect(bench.actions.contains(.perform(remove, .release(1))))
    bench.finish(remove)
    #expect(bench.reply(remove) == .done)
    let refused7 = bench.refusal(.describe(device: 1))
    #expect(refused7?.code == .noSuch)
    #expect(bench.session.order == [2])
  }

  @Test("what can be done with a device depends on the state in which it is found")
  func adoption() {
    for state in MigrationState.allCases {
      var bench = Bench()
      bench.add(1, state)
      let canSave = [.running, .runningP2P, .stop].contains(state)
      let refused8 = bench.refusal(.beginSave(Bench.save()))
      #expect((refused8?.code == .refused) == !canSave, "\(state)")
      bench = Bench()
      bench.add(1, state)
      let needsReset = [.resuming, .error].contains(state)
      let refused9 = bench.refusal(.resume)
      #expect((refused9?.code == .refused) == needsReset, "\(state)")
    }
  }

  @Test("a refused addition leaves room for another, and a limit is a limit")
  func limits() {
    var bench = Bench()
    let failed = bench.ask(.addDevice(Bench.device(1)))
    bench.finish(failed, .failure(HelperFailure(.refused, device: 1, "no migration")))
    #expect(bench.failure(failed)?.code == .refused && bench.session.order == [])
    var limits = HelperLimits()
    limits.memory = 1
    limits.mappings = 1
    limits.devices = 1
    bench.session = HelperSession(limits: limits, version: "")
    bench.ask(.hello(major: 1, minor: 0, features: [], version: ""))
    let first = bench.ask(.addMemory(Bench.memory))
    let refused10 = bench.refusal(.addMemory(Bench.memory))
    #expect(refused10?.code == .limit)
    bench.finish(first, .failure(HelperFailure(.system, "no memory")))
    let refused11 = bench.refusal(.addMemory(Bench.memory))
    #expect(refused11 == nil)
    let mapped = bench.ask(.addMapping(Bench.mapping))
    let refused12 = bench.refusal(.addMapping(Bench.mapping))
    #expect(refused12?.code == .limit)
    bench.finish(mapped)
    bench.finish(bench.ask(.removeMapping(Bench.mapping)))
    let refused13 = bench.refusal(.addMapping(Bench.mapping))
    #expect(refused13 == nil)
    bench.add(1)
    let refused14 = bench.refusal(.addDevice(Bench.device(2)))
    #expect(refused14?.code == .limit)
  }

  @Test("a request whose number has no reply yet ends the connection")
  func numbers() {
    var bench = Bench(devices: [1])
    bench.feed(.request(99, .describe(device: 1)))
    bench.feed(.request(99, .status))
    #expect(bench.failure(99)?.code == .badPacket)
    #expect(bench.actions.contains { if case .end(1, _) = $0 { true } else { false } })
  }
}
