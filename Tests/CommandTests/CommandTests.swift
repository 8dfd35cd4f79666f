// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Migration
import Synchronization
import Testing
import Topology
import Transport

@testable import vfio_ferry

/// Collects what a command writes.
final class Collector: Sendable {
  private let streams = Mutex((out: "", err: ""))
  var out: String { streams.withLock { $0.out } }
  var err: String { streams.withLock { $0.err } }
  var console: Console {
    Console(
      out: { [self] text in streams.withLock { $0.out += text } },
      err: { [self] text in streams.withLock { $0.err += text } }, showsProgress: false)
  }
}

struct CommandTests {
  @Test("list on a machine without VFIO is one line that says what would change it, and exit status 4")
  func noVFIO() throws {
    let collector = Collector()
    let command = try ListCommand.parse([])
    #expect {
      try command.execute(collector.console, inventory: Inventory(root: SystemRoot(prefix: "/nonexistent")))
    } throws: { error in
      guard let failure = error as? CommandFailure else { return false }
      return failure.status == .nothing && failure.message.contains("CONFIG_VFIO") && !failure.message.contains("\n")
    }
    #expect(collector.out.isEmpty)
  }

  @Test("a name that is no device name is misuse and says what a name looks like")
  func badName() throws {
    #expect {
      try ShowCommand.parse(["nonsense"]).execute(Collector().console)
    } throws: { error in
      (error as? CommandFailure)?.status == .misuse && "\(error)".contains("0000:3b:00.1")
    }
  }

  @Test("changing a device that another process holds is refused without --force, before it is looked for")
  func needsForce() throws {
    let commands: [any FerryCommand] = [
      try SaveCommand.parse(["0000:00:01.0", "-o", "/tmp/x", "--pid", "1"]),
      try LoadCommand.parse(["/tmp/x", "0000:00:01.0", "--pid", "1"]),
      try SendCommand.parse(["0000:00:01.0", "--to", "unix:/tmp/x", "--pid", "1"]),
      try ReceiveCommand.parse(["0000:00:01.0", "--listen", "unix:/tmp/x", "--pid", "1"]),
      try WalkCommand.parse(["0000:00:01.0", "--pid", "1"]),
      try StateCommand.parse(["0000:00:01.0", "--pid", "1", "--through", "stop"]),
    ]
    for command in commands {
      #expect {
        try command.execute(Collector().console)
      } throws: { error in
        (error as? CommandFailure)?.status == .refused && "\(error)".contains("--force")
      }
    }
  }

  @Test(
    "options that contradict each other are misuse",
    arguments: [
      ["show", "x", "--group", "--pid", "1"], ["show", "x", "--pid", "0"], ["save", "-o", "f"], ["load", "f"],
      ["show", "x", "--fd", "-2"], ["nonsense"], ["send", "x"], ["send", "--to", "fd:3"], ["receive", "x"],
      ["receive", "--listen", "fd:3"], ["send", "x", "--to", "fd:3", "--wait", "0"],
      ["receive", "x", "--listen", "fd:3", "--dead-after", "0"],
      ["send", "x", "--to", "fd:3", "--dead-after", "86401"],
    ])
  func misuse(arguments: [String]) {
    #expect(throws: (any Error).self) { try VFIOFerry.parseAsRoot(arguments) }
  }

  @Test(
    "an address that makes no sense is misuse, in one line that says what one is, before a device is looked for",
    arguments: ["host:4900", "tcp:host", "unix:", "fd:x", "tcp:2001:db8::1:4900"])
  func badAddress(address: String) throws {
    let commands: [any FerryCommand] = [
      try SendCommand.parse(["0000:00:01.0", "--to", address]),
      try ReceiveCommand.parse(["0000:00:01.0", "--listen", address]),
    ]
    for command in commands {
      #expect {
        try command.execute(Collector().console)
      } throws: { error in
        guard let failure = error as? CommandFailure else { return false }
        return failure.status == .misuse && failure.message.contains("tcp:HOST:PORT")
          && failure.message.contains(address) && !failure.message.contains("\n")
      }
    }
  }

  @Test("a command that can't be run is found out before anything is received")
  func noProgram() throws {
    var command = try ReceiveCommand.parse(["0000:00:01.0", "--listen", "unix:/tmp/x"])
    command.command = ["/nonexistent/vmm"]
    #expect {
      try command.execute(Collector().console)
    } throws: { error in
      (error as? CommandFailure)?.status == .nothing && "\(error)".contains("/nonexistent/vmm")
    }
  }

  @Test("JSON keeps the order of keys and escapes what must be escaped")
  func json() {
    let value = JSON.object([
      "b": .string("a\"\\\n\u{1}é"), "a": .array([.integer(-1), .unsigned(.max), .null, .bool(true)]), "e": .array([]),
    ])
    #expect(
      value.text(pretty: false)
        == #"{"b":"a\"\\\n\u0001é","a":[-1,18446744073709551615,null,true],"e":[]}"#)
    #expect(
      JSON.object(["a": .array([.integer(1)])]).text(pretty: true)
        == "{\n  \"a\": [\n    1\n  ]\n}")
  }

  @Test("columns are as wide as their widest cell")
  func table() {
    #expect(TextTable.lines([["A", "BB", "C"], ["aaa", "b", "c"]]) == ["A    BB  C", "aaa  b   c"])
  }

  @Test("figures have a unit that suits them")
  func figures() {
    #expect(Figures.bytes(1023) == "1023 bytes")
    #expect(Figures.bytes(1536) == "1.5 KiB")
    #expect(Figures.bytes(1 << 30) == "1.0 GiB")
    #expect(Figures.time(999) == "999 us")
    #expect(Figures.time(12_345) == "12.3 ms")
    #expect(Figures.time(12_345_678) == "12.3 s")
  }

  @Test("inspect takes neither side of a conversation for a saved stream", arguments: [false, true])
  func conversation(isAnswers: Bool) throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("half-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: file) }
    let device = StreamManifest.Device(name: "device", driver: "d", features: .stopCopy)
    let manifest = StreamManifest(devices: [device], commits: true).encoded()
    var bytes = StreamFormat.preamble(checksum: .xxh3)
    let types: [FrameType] = isAnswers ? [.loaded, .running] : [.manifest]
    for (number, type) in types.enumerated() {
      let payload: [UInt8] = type == .manifest ? manifest : []
      let header = FrameHeader(type: type, sequence: UInt64(number), length: payload.count)
      bytes += header.encoded(payload: payload.span, checksum: .xxh3) + payload
    }
    try Data(bytes).write(to: file)
    #expect {
      try InspectCommand.parse([file.path]).execute(Collector().console)
    } throws: { error in
      guard let failure = error as? CommandFailure else { return false }
      return failure.status == .failed && failure.message.contains(isAnswers ? "answers" : "half of a conversation")
    }
  }

  @Test("inspect says what is wrong with something that is no stream")
  func inspect() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("not-a-stream-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data("this is a text and no stream at all, and long enough".utf8).write(to: file)
    #expect {
      try InspectCommand.parse([file.path]).execute(Collector().console)
    } throws: { error in
      guard let failure = error as? CommandFailure else { return false }
      return failure.status == .failed && failure.message.contains("not a vfio-ferry stream")
    }
    #expect {
      try InspectCommand.parse(["/nonexistent"]).execute(Collector().console)
    } throws: { error in
      (error as? CommandFailure)?.status == .nothing
    }
  }
}
