// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import vfio_ferry

struct TopologyJSONTests {
  private func object(_ arguments: [String]) throws -> [String: Any] {
    let text = try TopologyBench.small().output(arguments)
    return try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test("a function has every key that the manual names, in one order")
  func function() throws {
    let text = try TopologyBench.small().output(["-j"])
    let expected = [
      #""address":"0000:04:00.1","kind":"endpoint","parent":"0000:02:01.0","host_bridge":"pci0000:00""#,
      #""pci_id":"f00d:0006","class_code":"0x020000","title":null,"driver":"mlx5_vfio_pci","on_vfio":true"#,
      #""iommu_group":1,"numa_node":0,"physical_function":"0000:04:00.0","link":null"#,
      #""bars":[{"index":0,"start":"0x40000000000","size_bytes":2097152,"io":false,"prefetchable":true}]"#,
      #""capabilities":{"acs":null,"acs_enabled":[],"ats_enabled":null,"relaxed_ordering":false"#,
      #""id_ordered_requests":false,"id_ordered_completions":false}"#,
    ].joined(separator: ",")
    #expect(text.contains("{" + expected + "}"))
  }

  @Test("functions stand in the order of their addresses, and none is left out")
  func order() throws {
    let functions = try #require(try object(["--json"])["functions"] as? [[String: Any]])
    let addresses = functions.compactMap { $0["address"] as? String }
    #expect(addresses.count == 11)
    #expect(addresses == addresses.sorted())
  }

  @Test("the ports' access control is in words")
  func accessControl() throws {
    let functions = try #require(try object(["-p"])["functions"] as? [[String: Any]])
    let port = try #require(functions.first { $0["address"] as? String == "0000:00:01.0" })
    let capabilities = try #require(port["capabilities"] as? [String: Any])
    #expect(
      capabilities["acs_enabled"] as? [String] == [
        "source_validation", "request_redirect", "completion_redirect", "upstream_forwarding",
      ])
  }

  @Test("pairs of named devices say which way, and what is assumed says what was found")
  func pairs() throws {
    let value = try object(["-j", "04:00.1", "03:00.0"])
    let pairs = try #require(value["pairs"] as? [[String: Any]])
    #expect(pairs.count == 2)
    #expect(pairs[0]["from"] as? String == "0000:04:00.1")
    #expect(pairs[0]["reaches"] as? Bool == true)
    #expect(pairs[0]["path"] as? String == "direct")
    #expect(pairs[0]["at"] as? String == "0000:01:00.0")
    #expect(pairs[0]["common_ancestor"] as? String == "0000:01:00.0")
    #expect(pairs[0]["origin"] as? String == "observed")
    let assumptions = try #require(value["assumptions"] as? [[String: Any]])
    #expect(assumptions.count == 5)
    #expect(assumptions.allSatisfy { $0["state"] as? String == "holds" })
  }
}
