// SPDX-License-Identifier: Apache-2.0
import Glibc
import Testing
import Transport

@testable import LinuxIO

@Suite("Addresses of streams")
struct StreamAddressTests {
  @Test(
    "what is an address is read, and written as it was read",
    arguments: [
      ("tcp:host.example:4900", StreamAddress.tcp(host: "host.example", port: 4900)),
      ("tcp:192.0.2.1:0", .tcp(host: "192.0.2.1", port: 0)),
      ("tcp:[2001:db8::1]:65535", .tcp(host: "2001:db8::1", port: 65535)),
      ("tcp:[fe80::1%eth0]:1", .tcp(host: "fe80::1%eth0", port: 1)),
      ("unix:/run/ferry", .unix(path: "/run/ferry")), ("unix:relative:path", .unix(path: "relative:path")),
      ("fd:0", .descriptor(0)), ("fd:17", .descriptor(17)),
    ])
  func reads(text: String, address: StreamAddress) throws {
    #expect(try StreamAddress(text) == address)
    #expect("\(address)" == text)
  }

  @Test(
    "what is none is refused with what it is, why, and what would be one",
    arguments: [
      ("", "no kind"), ("host", "no kind"), ("host:4900", "no kind that this program knows"), ("TCP:h:1", "no kind"),
      ("tcp:", "no port"), ("tcp:host", "no port"), ("tcp::4900", "no host"), ("tcp:[]:1", "no address of IPv6"),
      ("tcp:2001:db8::1:4900", "brackets"), ("tcp:[2001:db8::1:4900", "brackets"), ("tcp:[host]:1", "brackets"),
      ("tcp:host:", "no port"), ("tcp:host:http", "no port"), ("tcp:host:65536", "no port"), ("tcp:host:-1", "no port"),
      ("tcp:host:+1", "no port"), ("tcp:host:1 ", "no port"), ("unix:", "no path"), ("unix:a\0b", "no path"),
      ("unix:" + String(repeating: "x", count: 108), "107 at most"), ("fd:", "no number"), ("fd:-1", "no number"),
      ("fd:+1", "no number"), ("fd:99999999999", "no number"),
    ])
  func refuses(text: String, reason: String) {
    let error = #expect(throws: TransportError.self) { _ = try StreamAddress(text) }
    let message = error.map { "\($0)" } ?? ""
    #expect(error?.isMisuse == true)
    #expect(message.contains(reason) && message.contains("tcp:HOST:PORT") && !message.contains("\n"), "\(message)")
    #expect(message.contains("\"\(text)\""))
  }

  @Test("numbers stand for themselves, and a name for all that it has, in order and once each")
  func resolves() throws {
    guard case .tcp(_, let four) = try StreamAddress("tcp:127.0.0.1:4900").resolved(listens: false),
      case .tcp(_, let six) = try StreamAddress("tcp:[::1]:4900").resolved(listens: true),
      case .tcp(_, let named) = try StreamAddress("tcp:localhost:4900").resolved(listens: false)
    else {
      Issue.record("no addresses of TCP")
      return
    }
    #expect(four.map(\.name) == ["127.0.0.1:4900"] && six.map(\.name) == ["[::1]:4900"])
    #expect(named.contains(four[0]) && Set(named).count == named.count)
    #expect(try StreamAddress("fd:3").resolved(listens: true) == .descriptor(3))
  }

  @Test("port 0 can be listened on and not connected to, and a name that stands for nothing is the person's to mend")
  func unresolved() {
    let port = #expect(throws: TransportError.self) {
      _ = try StreamAddress("tcp:127.0.0.1:0").resolved(listens: false)
    }
    #expect(port?.isMisuse == true)
    #expect(throws: Never.self) { _ = try StreamAddress("tcp:127.0.0.1:0").resolved(listens: true) }
    #expect(TransportError.name(ResolutionError(host: "h", code: EAI_NONAME, errno: 0)).isMisuse)
    #expect(!TransportError.name(ResolutionError(host: "h", code: EAI_AGAIN, errno: 0)).isMisuse)
    let system = ResolutionError(host: "host.example", code: EAI_SYSTEM, errno: EMFILE)
    #expect(!TransportError.name(system).isMisuse && "\(system)".contains("host.example"))
  }
}
