// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Migration

/// What is said over netlink, by somebody who answers in the kernel's place.
protocol NetlinkConversation: AnyObject, Sendable {
  /// Takes a request, as it would go to the kernel.
  func take(request: [UInt8])
  /// The next message for whoever asked; nil for none.
  func answer() -> [UInt8]?
  /// The number that the kernel would have given devlink's family.
  var family: Int32 { get }
}

/// A socket in name only: libnl writes and reads its messages as it does the kernel's.
struct NetlinkReplay {
  let conversation: any NetlinkConversation

  init(_ conversation: any NetlinkConversation) { self.conversation = conversation }

  func ask(
    _ request: (OpaquePointer, UnsafeMutablePointer<vf_netlink_words>) -> Int32
  ) throws(NetlinkError) {
    let speaker = Speaker(conversation)
    var calls = unsafe vf_conversation(
      context: Unmanaged.passUnretained(speaker).toOpaque(),
      request: { context, bytes, size in
        unsafe Speaker.from(context).take(request: Array(UnsafeBufferPointer(start: bytes, count: size)))
      },
      answer: { context, buffer, size in
        guard let bytes = unsafe Speaker.from(context).answer(), bytes.count <= size, let buffer = unsafe buffer else {
          return 0
        }
        for (place, byte) in bytes.enumerated() { unsafe buffer[place] = byte }
        return bytes.count
      })
    let result = unsafe withUnsafePointer(to: &calls) { calls in
      Result { () throws(NetlinkError) in
        var opened: OpaquePointer?
        let refused = unsafe vf_netlink_replay(calls, conversation.family, &opened)
        guard refused == 0, let socket = unsafe opened else {
          throw NetlinkError(errno: ErrorNumber(rawValue: refused), words: "")
        }
        unsafe try KernelNetwork.ask(socket, request)
      }
    }
    withExtendedLifetime(speaker) {}
    try result.get()
  }

  /// What C is given a pointer to: a class of its own.
  private final class Speaker {
    private let conversation: any NetlinkConversation
    init(_ conversation: any NetlinkConversation) { self.conversation = conversation }
    func take(request: [UInt8]) { conversation.take(request: request) }
    func answer() -> [UInt8]? { conversation.answer() }
    static func from(_ context: UnsafeMutableRawPointer?) -> Speaker {
      guard let context = unsafe context else { preconditionFailure("the conversation has a context") }
      return unsafe Unmanaged<Speaker>.fromOpaque(context).takeUnretainedValue()
    }
  }
}
