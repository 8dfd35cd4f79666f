// SPDX-License-Identifier: Apache-2.0
import CVFIO
import LinuxIO
import Migration
import Testing

@testable import Helper

@Suite("Packets between a VMM and a helper")
struct HelperPacketTests {
  /// What a helper makes of a packet that comes with as many descriptors as it says.
  private func request(_ bytes: [UInt8]) -> Result<HelperCall, HelperPacketError> {
    let descriptors = bytes.count >= 16 ? bytes.span.extracting(12...).load(as: UInt32.self) : 0
    return request(bytes, descriptors: Int(descriptors))
  }

  private func request(_ bytes: [UInt8], descriptors: Int) -> Result<HelperCall, HelperPacketError> {
    do throws(HelperPacketError) {
      return .success(try HelperPacket.request(bytes.span, descriptors: descriptors))
    } catch {
      return .failure(error)
    }
  }

  private func message(_ bytes: [UInt8], descriptors: Int) -> Result<HelperMessage, HelperPacketError> {
    do throws(HelperPacketError) {
      return .success(try HelperPacket.message(bytes.span, descriptors: descriptors))
    } catch {
      return .failure(error)
    }
  }

  /// The packet that a message is.
  private func packet(_ message: HelperMessage) -> [UInt8] {
    switch message {
    case .reply(let number, let type, let reply): reply.packet(to: type, number: number)
    case .event(let event): event.packet
    }
  }

  @Test("each request is read as it was written, with its number and type")
  func requests() {
    var types: Set<UInt32> = []
    for (index, sample) in WireSamples.requests.enumerated() {
      let number = UInt32.max - UInt32(index)
      let bytes = sample.packet(number: number)
      #expect(request(bytes) == .success(HelperCall(number: number, type: sample.type, sample)))
      #expect(bytes.count <= HelperPacket.maximumSize)
      types.insert(sample.type)
    }
    #expect(types.count == 29)
  }

  @Test("each reply and event is read as it was written")
  func messages() {
    for (to, reply) in WireSamples.replies {
      let bytes = reply.packet(to: to.type, number: 7)
      #expect(
        message(bytes, descriptors: reply.descriptors(to: to.type))
          == .success(.reply(number: 7, to: to.type, reply)))
      #expect(bytes.count <= HelperPacket.maximumSize)
    }
    for event in WireSamples.events {
      #expect(message(event.packet, descriptors: 0) == .success(.event(event)))
    }
    #expect(Set(WireSamples.events.map(\.type)).count == 14)
  }

  @Test("there is no bit in a request that is not looked at")
  func requestBits() {
    for sample in WireSamples.requests {
      let bytes = sample.packet(number: 1)
      for bit in 0..<bytes.count * 8 {
        var flipped = bytes
        flipped[bit / 8] ^= 1 << UInt8(bit % 8)
        // What is taken for something says all that the bits say: whatever else they said was refused.
        guard case .success(let call) = request(flipped, descriptors: sample.descriptors) else { continue }
        #expect(call.request.packet(number: call.number) == flipped, "bit \(bit) of \(sample)")
        #expect(call.request != sample || call.number != 1, "bit \(bit) of \(sample)")
      }
    }
  }

  @Test("there is none in a reply or event either, but for the time that follows from others")
  func messageBits() {
    let samples =
      WireSamples.replies.map { ($0.1.packet(to: $0.to.type, number: 1), $0.1.descriptors(to: $0.to.type)) }
      + WireSamples.events.map { ($0.packet, 0) }
    for (bytes, descriptors) in samples {
      for bit in 0..<bytes.count * 8 {
        var flipped = bytes
        flipped[bit / 8] ^= 1 << UInt8(bit % 8)
        guard case .success(let message) = message(flipped, descriptors: descriptors) else { continue }
        // An estimate is written anew from what it follows from.
        if bytes.count == MemoryLayout<vfio_ferry_estimate>.size { continue }
        #expect(packet(message) == flipped, "bit \(bit) of \(message)")
      }
    }
  }

  @Test("a packet that is shorter or longer ends the connection, whether its head says so or not")
  func sizes() {
    for sample in WireSamples.requests {
      let bytes = sample.packet(number: 9)
      let isHello = sample.type == UInt32(VFIO_FERRY_HELLO)
      for count in Array(0..<bytes.count) + Array(bytes.count + 1...512) {
        var other = Array((bytes + [UInt8](repeating: 0, count: 512)).prefix(count))
        for tellsTruth in [false, true] {
          if tellsTruth, count >= 16 {
            other.replaceSubrange(4..<8, with: [UInt8(count & 255), UInt8(count >> 8), 0, 0])
          }
          guard case .failure(let error) = request(other, descriptors: sample.descriptors) else {
            Issue.record("\(sample) in \(count) bytes")
            continue
          }
          #expect(error.hangsUp)
          #expect(error.failure.code == .badPacket || isHello && error.failure.code == .version)
          #expect(error.number == (count < 16 ? 0 : 9) && error.type == (count < 16 ? 0 : sample.type))
        }
      }
    }
  }

  @Test("a number of descriptors that is not the request's ends the connection, whether its head says so or not")
  func descriptors() {
    for sample in WireSamples.requests {
      for count in 0...3 where count != sample.descriptors {
        var bytes = sample.packet(number: 9)
        for _ in 0..<2 {
          guard case .failure(let error) = request(bytes, descriptors: count) else {
            Issue.record("\(sample) with \(count)")
            continue
          }
          #expect(error.hangsUp && error.number == 9 && error.type == sample.type)
          bytes[12] = UInt8(count)
        }
      }
    }
  }

  @Test("bytes at random never do harm, and what they are taken for is what they say")
  func random() {
    var seed = UInt64(0x5eed)
    func next() -> UInt64 {
      // xorshift: the same bytes each time.
      seed ^= seed << 13
      seed ^= seed >> 7
      seed ^= seed << 17
      return seed
    }
    let samples = WireSamples.requests.map { ($0.packet(number: 3), $0.descriptors) }
    var taken = 0
    for round in 0..<300_000 {
      var (bytes, descriptors) = samples[Int(next() % UInt64(samples.count))]
      if round % 3 == 0 {
        bytes = (0..<Int(next() % 140)).map { _ in UInt8(truncatingIfNeeded: next()) }
      } else {
        // Some bytes of a real one: small values are more telling than any.
        for _ in 0...next() % 4 {
          let place = Int(next() % UInt64(bytes.count))
          bytes[place] = next() % 2 == 0 ? UInt8(next() % 4) : UInt8(truncatingIfNeeded: next())
        }
      }
      if case .success(let call) = request(bytes, descriptors: descriptors) {
        taken += 1
        #expect(call.request.packet(number: call.number) == bytes)
      }
      if case .success(let message) = message(bytes, descriptors: descriptors),
        bytes.count != MemoryLayout<vfio_ferry_estimate>.size
      {
        #expect(packet(message) == bytes)
      }
    }
    #expect(taken > 1000)
  }
}
