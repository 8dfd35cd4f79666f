// SPDX-License-Identifier: Apache-2.0
import Helper

extension FuzzTarget {
  /// Packets of both directions. What is read can be written, and is the same when it is read again.
  static let packets = FuzzTarget("packets") { bytes in
    var input = FuzzInput(bytes)
    let how = input.byte()
    let descriptors = Int(how & 3)
    var packet = input.rest()
    // Most inputs have a head that fits the packet, or few would come further.
    if how & 4 == 0 { fitHead(&packet, descriptors: descriptors) }
    if how & 8 == 0 {
      try readRequest(packet, descriptors)
    } else {
      try readMessage(packet, descriptors)
    }
  }

  /// Puts a packet's size and the number of its descriptors where they belong.
  static func fitHead(_ packet: inout [UInt8], descriptors: Int) {
    guard packet.count >= 16 else { return }
    for place in 0..<4 {
      packet[4 + place] = UInt8(truncatingIfNeeded: packet.count >> (8 * place))
      packet[12 + place] = place == 0 ? UInt8(descriptors) : 0
    }
  }

  private static func readRequest(_ packet: [UInt8], _ descriptors: Int) throws {
    let call: HelperCall
    do throws(HelperPacketError) {
      call = try HelperPacket.request(packet.span, descriptors: descriptors)
    } catch {
      return try check(error)
    }
    let again = call.request.packet(number: call.number)
    try demand(
      (try? HelperPacket.request(again.span, descriptors: descriptors)) == call, "\(call) is not what it is written as")
  }

  private static func readMessage(_ packet: [UInt8], _ descriptors: Int) throws {
    let message: HelperMessage
    do throws(HelperPacketError) {
      message = try HelperPacket.message(packet.span, descriptors: descriptors)
    } catch {
      return try check(error)
    }
    let again =
      switch message {
      case .reply(let number, let type, let reply): reply.packet(to: type, number: number)
      case .event(let event): event.packet
      }
    try demand(
      (try? HelperPacket.message(again.span, descriptors: descriptors)) == message,
      "\(message) is not what it is written as")
  }

  /// A refusal can be told, whatever was in the packet.
  private static func check(_ error: HelperPacketError) throws {
    try demand(!error.failure.text.isEmpty, "a refusal without words")
    let told = HelperReply.failure(error.failure).packet(to: error.type, number: error.number)
    try demand(
      (try? HelperPacket.message(told.span, descriptors: 0)) != nil, "a refusal that can't be told: \(error.failure)")
  }
}
