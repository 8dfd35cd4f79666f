// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@testable import Simulation

@Suite("Scenario files")
struct ScenarioFileTests {
  static func parse(_ text: String) throws(ScenarioFileError) -> ScenarioFile {
    try ScenarioFile.parse(text, name: "test")
  }

  /// What is said about a file; nil where it is taken.
  static func error(_ text: String) -> String? {
    do throws(ScenarioFileError) {
      _ = try parse(text)
      return nil
    } catch {
      return error.description
    }
  }

  @Test("a base alone is the built-in world", arguments: BuiltInWorld.allCases)
  func bases(base: BuiltInWorld) throws {
    let file = try Self.parse("base \(base.rawValue)")
    var expected = base.description
    expected.name = "test"
    #expect(file.world == expected)
    #expect(base.description.problem == nil)
    #expect(base.description.name == base.rawValue)
    #expect(file.faults == [] && file.settings == MoveSettings())
    #expect(!base.summary.isEmpty && !base.summary.contains("\n"))
  }

  @Test("a built-in world has what its name says")
  func builtIn() {
    #expect(BuiltInWorld.nic.description.gpus == 0)
    #expect(BuiltInWorld.nicGPU.description.devices == 2)
    #expect(BuiltInWorld.hgx.description.devices == 16)
    #expect(!BuiltInWorld.mixed.description.gpusHaveP2P)
    for base in BuiltInWorld.allCases {
      // A request is some 60 events. The traffic outlasts the pre-copy.
      let world = base.description
      let events = world.nics * world.connections * world.requests * 60
      #expect(events <= 300_000)
      #expect(UInt64(world.requests) * (world.pauseMicroseconds + 60) > world.moveAt + 20_000)
    }
  }

  @Test("keys mean what they say, with units and comments")
  func keys() throws {
    let file = try Self.parse(
      """
      # a comment
      base nic-gpu   # and one behind a line
      name two words
      pause 1.5 ms
      loss 0.5%
      reordering 1 %
      \tchannel-rate\t10Gbit/s\r
      image-rate 8 Mbit/s
      timeouts fixed
      timeout 700 us
      gpu-page 32 KiB
      quiescing drain
      gpu-p2p no
      sabotage page-dropped
      vcpu-stop 2 ms
      step-limit 1 s
      source-reset yes
      """)
    #expect(file.world.name == "two words")
    #expect(file.world.pauseMicroseconds == 1500)
    #expect(file.world.network.lossPerMillion == 5000)
    #expect(file.world.network.reorderingPerMillion == 10_000)
    #expect(file.world.channel.bytesPerMicrosecond == 1250)
    #expect(file.world.imageBytesPerMicrosecond == 1)
    #expect(file.world.retransmission.kind == .fixed)
    #expect(file.world.retransmission.baseMicroseconds == 700)
    #expect(file.world.gpuPageBytes == 32 << 10)
    #expect(file.world.quiescing == .drainingMessages)
    #expect(!file.world.gpusHaveP2P)
    #expect(file.world.sabotage == .droppedPage)
    let scenario = file.scenario(seed: 9)
    #expect(scenario.world == file.world && scenario.seed == 9)
    #expect(scenario.vcpuStopMicroseconds == 2000)
    #expect(scenario.save.quiescing.stepLimit == 1_000_000 && scenario.load.quiescing.stepLimit == 1_000_000)
    #expect(scenario.save.resetAllowed && !scenario.load.resetAllowed)
  }

  @Test("faults become the scenario's")
  func faults() throws {
    let lines = [
      "fault source device 0 arc stop fails EIO", "fault source device 1 arc stop-copy use 2 enters error",
      "fault destination device 0 arc resuming fails EBUSY and enters resuming",
      "fault destination device 1 any arc use 3 hangs 150 ms", "fault source device 0 read use 4 fails EFAULT",
      "fault destination device 0 write fails ENOMEM", "fault source device 1 pre-copy-info hangs",
      "fault source device 1 declared dead at 90 ms", "fault guest resets device 0 at 6 ms",
      "fault source interrupted before event 12", "fault destination interrupted twice at 2 s",
      "fault source interrupted twice when a device hangs", "fault source killed at 9 ms",
      "fault destination killed before event 31", "fault channel cut at 8 ms", "fault channel cut after 3 MiB",
      "fault channel flips bit 3 of byte 4096",
    ]
    let file = try Self.parse("base nic-gpu\n" + lines.joined(separator: "\n"))
    #expect(file.faultDescriptions == lines)
    let scenario = file.scenario(seed: 1)
    #expect(
      scenario.source[0].failures == [
        ScriptedFailure(.arc(to: .stop), use: 1, .fails(.inputOutput, .unchanged)),
        ScriptedFailure(.read, use: 4, .fails(.fault, .unchanged)),
      ])
    #expect(
      scenario.source[1].failures == [
        ScriptedFailure(.arc(to: .stopCopy), use: 2, .fails(.inputOutput, .at(.error))),
        ScriptedFailure(.preCopyInfo, use: 1, .hangs(microseconds: nil)),
      ])
    #expect(
      scenario.destination[0].failures == [
        ScriptedFailure(.arc(to: .resuming), use: 1, .fails(.busy, .at(.resuming))),
        ScriptedFailure(.write, use: 1, .fails(.noMemory, .unchanged)),
      ])
    #expect(
      scenario.destination[1].failures == [ScriptedFailure(.anyArc, use: 3, .hangs(microseconds: 150_000))])
    let time = { MonotonicTime(microseconds: $0) }
    #expect(scenario.deaths == [Scenario.Death(.source, device: 1, time: time(90_000))])
    #expect(scenario.guestResets == [Scenario.GuestReset(device: 0, time: time(6000))])
    #expect(
      scenario.interrupts == [
        .init(.source, .beforeEvent(12)), .init(.destination, .at(time(2_000_000))),
        .init(.destination, .at(time(2_000_000))), .init(.source, .onHang), .init(.source, .onHang),
      ])
    #expect(scenario.kills == [.init(.source, .at(time(9000))), .init(.destination, .beforeEvent(31))])
    #expect(scenario.link.breaksAt == time(8000) && scenario.link.breaksAfter == 3 << 20)
    #expect(scenario.link.flips == [SimulatedLink.Flip(byte: 4096, bit: 3)])
  }

  @Test("a world that was changed so that a fault's device is gone leaves the fault out")
  func fewerDevices() throws {
    var file = try Self.parse("base nic-gpu\nfault source device 1 read fails EIO")
    file.world = BuiltInWorld.nic.description
    #expect(file.scenario(seed: 1).source.map(\.failures) == [[]])
  }

  @Test(
    "an error says where, what and what is expected, on one line",
    arguments: [
      ("", "test:1: the file has no base: expected a line \"base NAME\" with one of nic, nic-gpu, hgx, mixed"),
      ("# no\n\n", "test:3: the file has no base: expected a line \"base NAME\" with one of nic, nic-gpu, hgx, mixed"),
      (
        "nics 2\nbase nic",
        "test:1: nics comes before the base: expected a line \"base NAME\" with one of nic, nic-gpu, hgx, mixed"
      ),
      ("base bic", "test:1: base is \"bic\": expected a line \"base NAME\" with one of nic, nic-gpu, hgx, mixed"),
      ("base nic\nbase nic", "test:2: base again, as on line 1: expected it once"),
      ("base nic\nlos 1%", "test:2: unknown key \"los\": expected a known one; the nearest is loss"),
      ("base nic\nwords 8\n\nwords 8", "test:4: words again, as on line 2: expected it once"),
      ("base nic\nnics 33", "test:2: nics is \"33\": expected a whole number, 1 to 32"),
      ("base nic\nloss 100.1%", "test:2: loss is \"100.1%\": expected a part in %, 0% to 100%"),
      ("base nic\npause 0.5 us", "test:2: pause is \"0.5 us\": expected a time in us, ms or s, 0 us to 3600 s"),
      ("base nic\npause 5", "test:2: pause is \"5\": expected a time in us, ms or s, 0 us to 3600 s"),
      (
        "base nic\nchannel-rate 9 Mbit/s",
        "test:2: channel-rate is \"9 Mbit/s\": expected a rate in Mbit/s or Gbit/s, 8 Mbit/s to 8000 Gbit/s"
      ),
      ("base nic\nquiescing", "test:2: quiescing is \"\": expected packets or drain"),
      ("base nic\nname \u{1b}[31m", "test:2: name is \"\\u{1b}[31m\": expected 1 to 100 characters of printable ASCII"),
      ("base nic\ntimeout 1 s\nwords 8", "test:2: timeout-limit is shorter than timeout: expected at least 1 s"),
      (
        "base nic\nnics 32\nconnections 5000",
        "test:3: 32 NICs with 5000 connections each: expected 131072 connections of all NICs together at most"
      ),
      (
        "base nic-gpu\nremap-buffers yes",
        "test:2: remap-buffers yes where a GPU answers: expected workload nic with it"
      ),
      ("base nic\nfault source device 1 read fails EIO", "test:2: there is no device 1: expected device 0"),
      ("base hgx\nfault guest resets device 16 at 1 s", "test:2: there is no device 16: expected 0 to 15"),
      (
        "base mixed\nfault source device 1 arc running-p2p fails EIO",
        "test:2: device 1 has no state running-p2p: expected a state of a device without P2P states"
      ),
      ("base nic\nfault guest resets", "test:2: the line ends: expected device"),
      (
        "base nic\nfault source device 0 arc stop fails EOIO",
        "test:2: \"EOIO\" is no error number: expected the name of an error number, like EIO"
      ),
      (
        "base nic\nfault source device 0 arc stop hangs",
        "test:2: the device hangs for ever, and nobody ends it: expected a time, or that side interrupted twice at a"
          + " time, or the device declared dead"
      ),
      (
        "base nic\nfault channel cut at 1 s\nfault channel cut at 2 s",
        "test:3: a fault like that of line 2: expected one of both"
      ),
      (
        "base nic\nfault channel flips bit 8 of byte 1", "test:2: \"8\": expected a bit, 0 to 7"
      ),
    ])
  func errors(text: String, message: String) {
    #expect(Self.error(text) == message)
  }

  @Test("a file or a line that is too long is an error")
  func limits() {
    let line = "#" + String(repeating: "x", count: ScenarioFile.mostLineBytes - 1)
    #expect(Self.error("base nic\n" + line) == nil)
    #expect(Self.error("base nic\n" + line + "x") == "test:2: the line is too long: expected at most 400 bytes")
    let start = "base nic\n"
    let file = start + String(repeating: "\n", count: ScenarioFile.mostBytes - start.utf8.count)
    #expect(Self.error(file) == nil)
    #expect(Self.error(file + "\n") == "test:65530: the file is too long: expected at most 65536 bytes")
  }

  @Test("a file's name is shown in printable ASCII, and is the world's where the file has none")
  func names() throws {
    #expect(try ScenarioFile.parse("base nic", name: "a\u{7}ö").world.name == "a\\u{7}\\u{f6}")
    do throws(ScenarioFileError) {
      _ = try ScenarioFile.parse("", name: "a\u{7}ö")
      Issue.record("an empty file is taken")
    } catch {
      #expect(error.description.hasPrefix("a\\u{7}\\u{f6}:1: "))
    }
  }
}
