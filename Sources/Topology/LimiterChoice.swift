// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
public import Migration

/// Which limiter a device gets: police where its incoming traffic can be policed, else devlink's rate.
public struct LimiterChoice: Sendable {
  /// The limiter, which has set nothing yet.
  public let limiter: any RateLimiter
  /// Why it is not a better one; empty for the best.
  public let shortcomings: [String]

  /// Looks at the host, and changes nothing.
  /// - Parameters:
  ///   - address: the device's PCI address.
  ///   - hardwareAddress: the device's MAC address, six bytes, where packets to it that the NIC's own switch takes from the
  ///     wire are to be policed too; see ``PolicePlace/uplink(_:address:representor:hardwareOnly:)`` for what this goes
  ///     past. Without it only what passes the host's software is policed.
  ///   - root: where sysfs is.
  ///   - folder: where the record of what is set is kept.
  /// - Throws: why nothing limits this device, when neither does.
  public init(
    _ address: String, hardwareAddress: [UInt8]? = nil, root: SystemRoot = SystemRoot(),
    folder: ThrottleFolder = ThrottleFolder()
  ) throws(RateLimiterError) {
    try self.init(address, hardwareAddress: hardwareAddress, root: root, folder: folder, network: KernelNetwork())
  }

  init(
    _ address: String, hardwareAddress: [UInt8]?, root: SystemRoot, folder: ThrottleFolder,
    network: any NetworkControl
  ) throws(RateLimiterError) {
    let refusal: RateLimiterError
    do throws(RateLimiterError) {
      let representor = try Representor.find(of: address, root: root)
      (limiter, shortcomings) = try Self.police(
        address, representor, hardwareAddress: hardwareAddress, folder: folder, network: network)
      return
    } catch {
      refusal = error
    }
    do throws(RateLimiterError) {
      let port = try Self.port(address, root: root, network: network)
      limiter = DevlinkRate(device: address, port: port, folder: folder, network: network)
      shortcomings = ["\(refusal)", "what \(address) sends is limited, not what it receives"]
    } catch {
      var both = refusal
      both.wayBack.append("\(error)")
      throw both
    }
  }

  /// Police at each place that takes a filter, as far as looking shows; whether hardware takes one, only trying shows.
  private static func police(
    _ address: String, _ representor: Representor, hardwareAddress: [UInt8]?, folder: ThrottleFolder,
    network: any NetworkControl
  ) throws(RateLimiterError) -> (any RateLimiter, [String]) {
    var wanted = [PolicePlace.representor(representor.interface)]
    if let hardwareAddress, let uplink = representor.uplink {
      wanted.append(.uplink(uplink, address: hardwareAddress, representor: representor.interface))
    }
    var (usable, shortcomings): ([PolicePlace], [String]) = ([], [])
    var first: RateLimiterError?
    for place in wanted {
      let limiter = PoliceFilter(device: address, places: [place], folder: folder, network: network)
      do throws(RateLimiterError) {
        try limiter.check()
        usable.append(place)
      } catch {
        first = first ?? error
        shortcomings.append("\(error)")
      }
    }
    if let first, usable.isEmpty { throw first }
    if !usable.contains(where: \.bypassesOthers) {
      shortcomings.append("only what passes the host's software on its way to \(address) is limited")
    }
    return (PoliceFilter(device: address, places: usable, folder: folder, network: network), shortcomings)
  }

  private static func port(
    _ address: String, root: SystemRoot, network: any NetworkControl
  ) throws(RateLimiterError) -> DevlinkPort {
    guard let place = VirtualFunctionPlace(address, root: root) else {
      throw RateLimiterError(
        device: Attribute.harmless(address), kind: .devlinkRate, operation: "finding the devlink port",
        subject: root.sys,
        cause: .refused("it is no virtual function of a NIC"))
    }
    do throws(NetlinkError) {
      let number = try network.port(ofFunction: UInt16(place.number), bus: "pci", device: place.physicalFunction)
      let port = DevlinkPort(bus: "pci", device: place.physicalFunction, number: number)
      _ = try network.rate(of: port)
      return port
    } catch {
      throw RateLimiterError(
        device: address, kind: .devlinkRate, operation: "finding a devlink port with a rate",
        subject: "pci/\(place.physicalFunction)", error)
    }
  }
}
