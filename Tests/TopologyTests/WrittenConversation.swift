// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Synchronization
import Testing

@testable import Topology

/// A conversation over netlink as a file of Tests/TopologyFixtures/Exchanges has it: each request must be the next one there.
final class WrittenConversation: NetlinkConversation {
  /// A message; nil stands for a byte that differs each time.
  struct Message {
    var title: String
    var line: Int
    var isRequest: Bool
    /// Of an answer: which one of the file's it is, from 0.
    var number = 0
    var bytes: [UInt8?] = []

    /// Whether a request is this one.
    func isSame(as request: [UInt8]) -> Bool {
      bytes.count == request.count && zip(bytes, request).allSatisfy { $0 == nil || $0 == $1 }
    }

    /// An answer to a request: nlmsg_seq and nlmsg_pid are at 8, and in a refusal again at 28, in the request's header.
    func bytes(answering request: [UInt8]) -> [UInt8] {
      bytes.enumerated().map { place, byte in byte ?? request[place < 16 ? place : place - 20] }
    }
  }

  /// Something to be changed in what is answered.
  struct Change {
    /// The answer, from 0, however often it is given.
    var answer: Int
    /// Changes its bytes.
    var change: @Sendable (inout [UInt8]) -> Void
  }

  private struct Course {
    var messages: ArraySlice<Message>
    /// The last request, whose port and sequence number the answers have.
    var request: [UInt8] = []
    var complaints: [String] = []
  }

  let family: Int32 = 28
  private let course: Mutex<Course>
  private let change: Change?

  init(_ name: String, changing change: Change? = nil) throws {
    self.change = change
    course = Mutex(Course(messages: try Self.messages(of: name)[...]))
  }

  private static let read = Mutex<[String: [Message]]>([:])

  /// The messages of a file, which is read once.
  static func messages(of name: String) throws -> [Message] {
    if let messages = read.withLock({ $0[name] }) { return messages }
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../TopologyFixtures/Exchanges/\(name).netlink")
    var messages: [Message] = []
    var answers = 0
    for (index, line) in try String(contentsOf: file, encoding: .utf8).components(separatedBy: "\n").enumerated() {
      let bytes = line.prefix { $0 != "#" }.trimmingCharacters(in: .whitespaces)
      if bytes.hasPrefix(">") || bytes.hasPrefix("<") {
        let isRequest = bytes.hasPrefix(">")
        messages.append(Message(title: line, line: index + 1, isRequest: isRequest, number: answers))
        if !isRequest { answers += 1 }
      } else if bytes.hasPrefix("=") {
        messages += messages[try #require(messages.lastIndex { $0.isRequest }, "\(name):\(index + 1)")...]
      } else {
        for byte in bytes.split(separator: " ") {
          if byte == ".." {
            messages[messages.count - 1].bytes.append(nil)
          } else {
            let value: UInt8 = try #require(UInt8(byte, radix: 16), "\(name):\(index + 1)")
            messages[messages.count - 1].bytes.append(value)
          }
        }
      }
    }
    read.withLock { $0[name] = messages }
    return messages
  }

  static func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
  }

  func take(request: [UInt8]) {
    course.withLock { course in
      course.request = request
      guard let expected = course.messages.popFirst(), expected.isRequest else {
        course.complaints.append("nothing more is asked, and now \(request)")
        return
      }
      if !expected.isSame(as: request) {
        course.complaints.append(
          "line \(expected.line) (\(expected.title)) is not what is asked: \(Self.hexadecimal(request))")
      }
    }
  }

  func answer() -> [UInt8]? {
    course.withLock { course in
      guard let next = course.messages.first, !next.isRequest else { return nil }
      course.messages.removeFirst()
      var bytes = next.bytes(answering: course.request)
      if let change, change.answer == next.number { change.change(&bytes) }
      return bytes
    }
  }

  /// That all of it was said, and nothing else.
  func end() {
    course.withLock { course in
      #expect(course.complaints.isEmpty, "\(course.complaints.joined(separator: "\n"))")
      #expect(course.messages.isEmpty, "not asked: \(course.messages.first?.title ?? "")")
    }
  }
}

@Suite("What is said over netlink of a ConnectX, as it is written down")
struct NetlinkExchangeTests {
  @Test(
    "modes, addresses and migratable are asked for and set byte by byte as the kernel defines it, and answers understood"
  )
  func whole() throws {
    let conversation = try WrittenConversation("connectx")
    let network = KernelNetwork(conversation: conversation)
    let device = "0000:3b:00.0"
    let port = DevlinkPort(bus: "pci", device: device, number: 1)
    let address = try #require(MACAddress("02:00:5e:00:00:11"))
    #expect(try network.switchMode(bus: "pci", device: device) == .legacy)
    #expect(throws: NetlinkError(errno: .notSupported, words: "Failed setting eswitch to offloads")) {
      try network.setSwitchMode(bus: "pci", device: device, .switchdev)
    }
    try network.setSwitchMode(bus: "pci", device: device, .switchdev)
    #expect(try !network.isMigratable(function: 0, bus: "pci", device: device))
    try network.setAddress(of: port, address)
    #expect(throws: NetlinkError(errno: .notSupported, words: "mlx5_core: Device doesn't support migration")) {
      try network.setMigratable(of: port, true)
    }
    try network.setMigratable(of: port, true)
    #expect(try network.isMigratable(function: 0, bus: "pci", device: device))
    #expect(try network.address(ofFunction: 0, bus: "pci", device: device) == address.bytes)
    // ENODATA: its driver knows no such thing.
    #expect(throws: NetlinkError(errno: .init(rawValue: 61), words: "")) {
      try network.isMigratable(function: 1, bus: "pci", device: device)
    }
    try network.setMigratable(of: port, false)
    try network.setAddress(of: port, try #require(MACAddress("00:00:00:00:00:00")))
    try network.setSwitchMode(bus: "pci", device: device, .legacy)
    conversation.end()
  }

  @Test("an answer that breaks off, or none, is an error and nothing else")
  func cut() throws {
    for kept in [0, 3, 16, 20, 47] {
      let network = KernelNetwork(conversation: CutConversation(kept: kept))
      #expect(throws: NetlinkError.self) { try network.switchMode(bus: "pci", device: "0000:3b:00.0") }
    }
  }

  /// Answers with so many bytes of its own request, and then no more.
  private final class CutConversation: NetlinkConversation {
    let family: Int32 = 28
    private let kept: Int
    private let bytes = Mutex<[UInt8]?>(nil)

    init(kept: Int) { self.kept = kept }
    func take(request: [UInt8]) { bytes.withLock { $0 = Array(request.prefix(kept)) } }
    func answer() -> [UInt8]? {
      bytes.withLock { bytes in
        defer { bytes = nil }
        return bytes
      }
    }
  }
}
