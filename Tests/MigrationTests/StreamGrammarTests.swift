// SPDX-License-Identifier: Apache-2.0
import Migration
import Testing

@Suite("The order of frames")
struct StreamGrammarTests {
  /// What is wrong, the frames, and a part of the reason that is given.
  static let violations: [(String, [TestFrame], String)] = [
    ("no manifest", [.data(0, [1])], "manifest must come first"),
    ("a second manifest", [.manifest(), .manifest()], "second manifest"),
    (
      "an optional frame before the manifest", [TestFrame(type: 99, isOptional: true), .manifest()],
      "manifest must come first"
    ),
    ("an answer before the manifest", [TestFrame(type: 64, device: 0), .manifest()], "manifest must come first"),
    ("an answer among the state", [.manifest(), TestFrame(type: 64, device: 0)], "it is an answer"),
    ("a device that is not there", [.manifest(), .data(2, [1])], "about device 2, and the manifest has 2"),
    ("the last index", [.manifest(), .data(Int(UInt32.max) - 1, [1])], "the manifest has 2"),
    ("data about the whole stream", [.manifest(), TestFrame(type: 2, payload: [1])], "device field"),
    (
      "a manifest about one device", [TestFrame(type: 1, device: 0, payload: TestFrame.manifest().payload)],
      "device field"
    ),
    (
      "an end about one device", [.manifest(), TestFrame(type: 7, device: 0, payload: littleEndian(1))], "device field"
    ),
    ("data after its device's end", [.manifest(), .deviceEnd(0, bytes: 0, frames: 0), .data(0, [1])], "ended already"),
    ("a void after its device's end", [.manifest(), .deviceEnd(0, bytes: 0, frames: 0), .void(0)], "ended already"),
    (
      "a second end of a device",
      [.manifest(), .deviceEnd(0, bytes: 0, frames: 0), .deviceEnd(0, bytes: 0, frames: 0)],
      "ended already"
    ),
    ("a second VMM's state", [.manifest(), .vmmState(0, [1]), .vmmState(0, [2])], "second vmm-state"),
    ("too many bytes stated", [.manifest(), .data(0, [1]), .deviceEnd(0, bytes: 2, frames: 1)], "2 bytes in 1 frames"),
    ("too few frames stated", [.manifest(), .data(0, [1]), .deviceEnd(0, bytes: 1, frames: 0)], "1 in 1 came"),
    (
      "void data counted", [.manifest(), .data(0, [1]), .void(0), .deviceEnd(0, bytes: 1, frames: 1)], "0 in 0 came"
    ),
    (
      "an end before all devices' ends", [.manifest(), .deviceEnd(0, bytes: 0, frames: 0), .end(2)], "not every device"
    ),
    (
      "a wrong number of frames",
      [.manifest(), .deviceEnd(0, bytes: 0, frames: 0), .deviceEnd(1, bytes: 0, frames: 0), .end(4)],
      "4 frames, and 3 came"
    ),
    ("a commit before the end", [.manifest(commits: true), TestFrame(type: 8)], "stands before the end"),
    ("an answer of the whole group among the state", [.manifest(), TestFrame(type: 65)], "it is an answer"),
    (
      "data where a commit was promised",
      [
        .manifest(commits: true), .deviceEnd(0, bytes: 0, frames: 0), .deviceEnd(1, bytes: 0, frames: 0), .end(3),
        .void(0),
      ],
      "after the end frame"
    ),
    ("a number left out", [.manifest(), TestFrame(type: 4, device: 0, sequence: 2)], "missing or out of order"),
    ("a number twice", [.manifest(), TestFrame(type: 4, device: 0, sequence: 0)], "missing or out of order"),
  ]

  @Test("a frame that stands where it may not is refused, with the reason", arguments: violations.indices)
  func refused(number: Int) throws {
    let (what, frames, part) = Self.violations[number]
    let result = read(frames)
    let reason = try #require(result.reason, "\(what): \(result)")
    #expect(reason.contains(part), "\(what): \(reason)")
    #expect(result.error.map { "\($0)".contains("frame ") } == true)
  }

  @Test("a promised commit follows the end, and nothing follows it; without the promise nothing follows the end")
  func commit() throws {
    let ends: [TestFrame] = [.deviceEnd(0, bytes: 0, frames: 0), .deviceEnd(1, bytes: 0, frames: 0), .end(3)]
    var reader = StreamReader(checksum: testChecksum)
    var items: [StreamItem] = []
    let bytes = encode([.manifest(commits: true)] + ends + [TestFrame(type: 8)]).bytes
    var position = 0
    while position < bytes.count {
      let wanted = reader.wanted
      if let item = try reader.take(bytes.span.extracting(position..<(position + wanted))) {
        items.append(item)
        if item == .end { #expect(!reader.isEnded) }
      }
      position += wanted
    }
    #expect(items.suffix(2) == [.end, .commit])
    #expect(reader.isEnded && reader.wanted == 0)
    // Cut after its end, such a stream is not whole.
    #expect(read([.manifest(commits: true)] + ends).error?.kind == .incomplete)
    #expect(read([.manifest()] + ends).error == nil)
  }

  @Test("the destination says loaded once, then running once, and nothing more")
  func words() {
    func reason(_ types: [UInt16]) -> String? { read(types.map { TestFrame(type: $0) }).reason }
    #expect(reason([66])?.contains("running must follow loaded") == true)
    #expect(reason([65, 65])?.contains("a second loaded") == true)
    #expect(reason([65, 66]) == nil)
  }

  @Test("the VMM's state may follow its device's end, and initial data may be complete again after a void")
  func allowed() {
    let frames: [TestFrame] = [
      .manifest(), .initialComplete(0), .void(0), .void(0), .initialComplete(0), .deviceEnd(0, bytes: 0, frames: 0),
      .deviceEnd(1, bytes: 0, frames: 0), .vmmState(0, []), .end(8),
    ]
    #expect(read(frames).error == nil)
  }

  @Test("the destination's direction has answers only, and begins without a manifest")
  func answers() throws {
    var reader = StreamReader(checksum: testChecksum)
    let frames = [
      TestFrame(type: 64, device: 1), TestFrame(type: 70, isOptional: true), TestFrame(type: 64, device: 0),
    ]
    let bytes = encode(frames).bytes
    var items: [StreamItem] = []
    var position = 0
    while position < bytes.count {
      let wanted = reader.wanted
      if let item = try reader.take(bytes.span.extracting(position..<(position + wanted))) { items.append(item) }
      position += wanted
    }
    #expect(items == [.initialLoaded(device: 1), .skipped(type: 70), .initialLoaded(device: 0)])
    #expect(read([TestFrame(type: 64, device: 1), .data(0, [1])]).reason?.contains("manifest") == true)
  }
}
